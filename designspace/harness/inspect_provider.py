"""A model provider for Inspect [`inspect_ai`]: `--model designspace/NAME -M mechanism=alpha -M budget=128`.

NAME is what `designspace.load` takes: a bundled model, a folder, or a hub repository. Samples that await a text share the rows
of one engine. What a text's cache held is in the metadata of its output, so it is in the log.
"""

from __future__ import annotations

from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from designspace.errors import DeclarationError, did_you_mean
from designspace.harness.service_thread import ServiceThread
from designspace.harness.text_service import Order, TextService, account
from designspace.program.generated_text import GeneratedText

_ARGUMENTS = (
    "mechanism",
    "budget",
    "rows",
    "device",
    "dtype",
    "calibrate_on",
    "tokenizer",
    "model",
    "default_max_tokens",
)
# Settings that would change a text and are not known here.
_REFUSED = (
    "best_of", "frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "response_schema", "top_k", "top_logprobs",
)  # fmt: skip
_DEFAULT_NEW_TOKENS = 2048  # Inspect's own
_LOOK_S = 0.01  # between two looks whether a text is there


@modelapi(name="designspace")
def designspace_provider() -> type[ModelAPI]:
    """Return the provider, which Inspect finds through its entry points."""
    return DesignspaceAPI


class DesignspaceAPI(ModelAPI):
    """One mechanism at one budget on one model."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as its base class has it
        **model_args: Any,
    ) -> None:
        """model_args: those of `designspace.load` and `designspace.generate`, and `rows`.

        Raises:
            DesignspaceError: an argument that is not known, or there is no such model or mechanism.
        """
        super().__init__(model_name, base_url, api_key, [], config)
        for name in model_args:
            if name not in _ARGUMENTS:
                raise DeclarationError(f"unknown model argument {name!r}{did_you_mean(name, _ARGUMENTS)}")
        self._default_max_tokens = int(model_args.pop("default_max_tokens", _DEFAULT_NEW_TOKENS))
        self.service = TextService(model_args.pop("model", model_name), **model_args)
        self._thread = ServiceThread(self.service)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Return the model's answer, with what its cache held as metadata.

        Raises:
            DeclarationError: tools, a message that is not text, or a setting that is not known here.
        """
        if tools:
            raise DeclarationError(f"this provider calls no tools, got {', '.join(tool.name for tool in tools)}")
        for name in _REFUSED:
            if (value := getattr(config, name, None)) is not None and value is not False:
                raise DeclarationError(f"this provider takes no {name}, got {name}={value!r:.60}")
        ids = self._encoded(input)
        futures = [self._thread.order(self._order(ids, config)) for _ in range(config.num_choices or 1)]
        while not all(future.done() for future in futures):
            await anyio.sleep(_LOOK_S)
        return self._output([future.result() for future in futures])

    def _order(self, ids: tuple[int, ...], config: GenerateConfig) -> Order:
        return Order(
            ids,
            max_new_tokens=config.max_tokens or self._default_max_tokens,
            temperature=config.temperature or 0.0,
            top_p=1.0 if config.top_p is None else config.top_p,
            stop=tuple(config.stop_seqs or ()),
            seed=config.seed or 0,
        )

    def _encoded(self, messages: list[ChatMessage]) -> tuple[int, ...]:
        """Return a conversation's tokens: through the chat template, or as lines of `role: text` where there is none."""
        plain = []
        for message in messages:
            if not isinstance(message.content, str) and any(
                part.type not in ("text", "reasoning") for part in message.content
            ):
                raise DeclarationError(f"this provider reads text, got a {message.role} message with other content")
            plain.append({"role": message.role, "content": message.text})
        tokenizer = self.service.loaded.tokenizer
        if not tokenizer.chat_template:
            text = "".join(f"{message['role']}: {message['content']}\n" for message in plain)
            return tuple(tokenizer(text)["input_ids"])
        text = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer(text)["input_ids"])

    def _output(self, texts: list[GeneratedText]) -> ModelOutput:
        choices = [
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=text.text, model=self.model_name, source="generate"),
                stop_reason="stop" if text.finish_reason == "stop" else "max_tokens",
            )
            for text in texts
        ]
        n_prompt, n_new = texts[0].ledger.n_prompt_tokens, sum(text.ledger.n_new_tokens for text in texts)
        return ModelOutput(
            model=self.model_name,
            choices=choices,
            usage=ModelUsage(input_tokens=n_prompt, output_tokens=n_new, total_tokens=n_prompt + n_new),
            metadata={"designspace": {**self.service.facts(), "texts": [account(text) for text in texts]}},
        )

    def max_connections(self) -> int:
        """Return how many texts may be awaited at once: what fills the rows, and as many that wait for one."""
        return 2 * self.service.rows

    def max_tokens(self) -> int | None:
        """Return the cap of a text where nobody names one."""
        return self._default_max_tokens

    def collapse_user_messages(self) -> bool:
        """Return whether user messages that follow each other are one."""
        return True
