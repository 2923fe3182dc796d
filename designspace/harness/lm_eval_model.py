"""A model for EleutherAI's evaluation harness [`lm_eval`]: its generative tasks with a compressed cache.

    import lm_eval
    from designspace.harness.lm_eval_model import DesignspaceLM

    model = DesignspaceLM("trace-llama", "alpha", budget=80)
    results = lm_eval.simple_evaluate(model, tasks=["gsm8k"])

Prompts are tokenised, cut at stops and repeated as by the harness's own model of transformers, so the full cache gives its
texts. What the cache held is in `results["config"]`, and text by text in `model.texts`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs

from designspace.errors import DeclarationError
from designspace.harness.text_service import Order, TextService, account
from designspace.program.arm_arguments import BudgetLike, MechanismLike
from designspace.program.calibrations import CalibrateOn
from designspace.program.generated_text import GeneratedText, warn_of_no_event

_DEFAULT_NEW_TOKENS = 256  # the harness's own, where a task names none
# Of what a task may ask for beside these, nothing is passed over.
_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "seed"}


@register_model("designspace")
class DesignspaceLM(LM):
    """One mechanism at one budget on one model. texts: of all requests so far, in the order in which they were asked."""

    def __init__(
        self,
        model: Any,
        mechanism: MechanismLike = "full",
        budget: BudgetLike | None = None,
        *,
        tokenizer: Any = None,
        rows: int = 16,
        seed: int = 0,
        device: str | None = None,
        dtype: Any = None,
        calibrate_on: CalibrateOn | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
    ) -> None:
        """The arguments are those of `designspace.load` and `designspace.generate`; a batch size would be `rows`.

        Raises:
            DesignspaceError: there is no such model or mechanism, or it needs what is not there.
        """
        super().__init__()
        if str(batch_size).isdigit() and int(batch_size) > 1:  # the harness hands on 1 where nobody has said anything
            rows = int(batch_size)
        self.service = TextService(
            model,
            mechanism,
            budget,
            tokenizer=tokenizer,
            rows=rows,
            device=device,
            dtype=dtype,
            calibrate_on=calibrate_on,
        )
        self.seed, self.texts = seed, list[GeneratedText]()

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the text of each request, up to its first stop.

        Raises:
            DeclarationError: a setting of the generation that is not known here, or a text that is too long for the model.
        """
        orders = [self._order(*instance.args) for instance in requests]
        for order in orders:
            self.service.check(order)
        written = dict[int, GeneratedText]()
        for order, text in self.service.write(deque(orders)):
            written[id(order)] = text
        texts = [written[id(order)] for order in orders]
        self.texts += texts
        arm = self.service.arm
        warn_of_no_event(arm.mechanism, arm.budget, [text.ledger for text in texts])
        for instance, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", instance.args, text.text)
        return [text.text for text in texts]

    def _order(self, context: str, settings: Mapping[str, Any]) -> Order:
        asked: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), _DEFAULT_NEW_TOKENS))
        unknown = {name: value for name, value in asked.items() if name not in _KNOWN and value is not None}
        if unknown:
            raise DeclarationError(f"generation settings must be of {', '.join(sorted(_KNOWN))}, got {unknown!r}")
        until = asked.get("until") or []
        return Order(
            prompt_ids=tuple(self._encoded(context)),
            max_new_tokens=int(asked["max_gen_toks"]),
            temperature=float(asked.get("temperature") or 0.0) if asked.get("do_sample") else 0.0,
            top_p=float(asked.get("top_p") or 1.0),
            stop=(until,) if isinstance(until, str) else tuple(until),
            seed=int(asked.get("seed") or self.seed),
        )

    def _encoded(self, context: str) -> list[int]:
        """Return a prompt's tokens; one that begins with the text's first token gets it once."""
        tokenizer = self.service.loaded.tokenizer
        has_bos = tokenizer.bos_token is not None and context.startswith(tokenizer.bos_token)
        ids: list[int] = tokenizer.encode(context, **({"add_special_tokens": False} if has_bos else {}))
        return ids

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        """Refuse: scoring given answers decodes nothing, so a compressed cache would change no number.

        Raises:
            DeclarationError: always.
        """
        name = self.service.arm.mechanism.name
        raise DeclarationError(
            f"loglikelihood scores given answers in one pass and decodes nothing, so mechanism {name!r} would change no number:"
            " use the harness's own model (hf) for such tasks, or a task that generates"
        )

    loglikelihood_rolling = loglikelihood

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the model's chat template writes it."""
        text: str = self.service.loaded.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, by which the harness tells its caches apart."""
        return str(self.service.loaded.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the model's chat template, which the harness stores with its results; None where none is asked for."""
        template: str | None = self.service.loaded.tokenizer.chat_template
        return template if chat_template else None

    def get_model_info(self) -> dict[str, Any]:
        """Return what the results say of the arm and of what its cache held."""
        held = [account(text) for text in self.texts]
        names = ("mean_cache_tokens", "peak_cache_tokens", "mean_cache_bytes", "n_events", "n_new_tokens")
        means = {name: mean(one[name] for one in held) for name in names} if held else {}
        return {"designspace": {**self.service.facts(), "n_texts": len(held), "mean_over_texts": means, "texts": held}}
