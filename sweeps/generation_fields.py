"""Fields of `generation`: how every arm generates, in so many rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    ByteSize,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from designspace.errors import DeclarationError
from sweeps.fields import LARGEST_COUNT, Strict
from sweeps.presets import with_preset

_BYTES = TypeAdapter(ByteSize)
_REPLACEMENT = "\ufffd"


ROWS = AliasChoices("rows", "batch_size")


class GenerationCaps(Strict):
    """How every arm generates, whatever the number of rows.

    Attributes:
        temperature: 0 = greedy; applies where a mechanism leaves its decoding out, as do the next four.
        top_p: draw from the most likely tokens that have this probability together; 1 = from all.
        top_k: draw from so many most likely tokens; 0 = from all.
        min_p: draw from tokens that are at least so likely, as a share of the most likely one; 0 = from all.
        repetition_penalty: tokens that stand in the prompt or the text already are made less likely by it, drawn or greedy:
            positive logits are divided by it, negative ones multiplied; 1 = they are not.
        preset: settings that the makers of a model recommend, by name: `deepseek-r1-distill`, `qwen3-thinking`,
            `qwen3-non-thinking`, or `model` for what is in each model's own `generation_config.json`. What stands beside it
            counts before what it says.
        max_new_tokens: cap on generated tokens. This or the next is needed.
        max_total_tokens: cap on prompt and generated tokens together.
        min_new_tokens: so many tokens are written before a text may end: until then the end-of-text token cannot be chosen, and
            a stop string counts only if it begins after them.
        stop: texts at which a generation ends. The token that completes one is the last; the text that is stored and graded
            ends before it.
        prefill_chunk: the most tokens of a prompt that go through the model at once, a multiple of 16; None = all of them. What
            a long prompt needs beside its keys and values so has a bound; sums are rounded otherwise, so it belongs to a
            cell's identity.
        block: problems per shard; None = the number of rows.
        step: how a decode step is run. `compiled`: once per model and number of rows captured as a graph, for long runs; its
            logits differ in their last bits, so it belongs to a cell's identity.
    """

    temperature: float = Field(ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    preset: str | None = None
    max_new_tokens: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    max_total_tokens: int | None = Field(default=None, ge=2, le=LARGEST_COUNT)
    min_new_tokens: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    stop: Annotated[tuple[str, ...], Field(strict=False)] = ()
    prefill_chunk: int | None = Field(default=None, ge=16, le=LARGEST_COUNT, multiple_of=16)
    block: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    step: Literal["plain", "compiled"] = "plain"

    @model_validator(mode="before")
    @classmethod
    def _as_preset(cls, data: Any) -> Any:
        return with_preset(data)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.max_new_tokens is None and self.max_total_tokens is None:
            raise ValueError("needs max_new_tokens or max_total_tokens, got neither")
        if self.min_new_tokens > self.most_new_tokens:
            raise ValueError(
                f"min_new_tokens must be at most the cap on new tokens, got min_new_tokens={self.min_new_tokens}, "
                f"cap={self.most_new_tokens}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_was_always_so(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as it ever was, so that records of earlier releases stay what they are."""
        found: dict[str, Any] = handler(self)
        for name in ("min_new_tokens", "prefill_chunk", "stop", "top_k", "min_p", "repetition_penalty", "preset"):
            if found.get(name) == GenerationCaps.model_fields[name].default:
                del found[name]
        return found | {"stop": list(self.stop)} if self.stop else found

    @field_validator("stop")
    @classmethod
    def _stops_can_be_found(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        for text in stop:
            if not text or _REPLACEMENT in text:  # what a letter looks like of which some bytes are still to come
                raise ValueError(f"a stop string must be text that a model can write, got {text!r}")
        if len(set(stop)) < len(stop):
            raise ValueError(f"stop strings must differ, got {list(stop)}")
        return stop

    @property
    def most_new_tokens(self) -> int:
        """Upper bound of the tokens generated for one problem: a prompt has at least one token."""
        return self._cap_after(1)

    def new_token_cap(self, n_prompt_tokens: int) -> int:
        """Return the cap on new tokens after a prompt of this length.

        Raises:
            DeclarationError: the prompt leaves no room.
        """
        cap = self._cap_after(n_prompt_tokens)
        if cap < 1:
            raise DeclarationError(
                f"max_total_tokens must leave room after the longest prompt, got max_total_tokens="
                f"{self.max_total_tokens}, longest prompt={n_prompt_tokens}"
            )
        return cap

    def _cap_after(self, n_prompt_tokens: int) -> int:
        caps = (self.max_new_tokens, self.max_total_tokens - n_prompt_tokens if self.max_total_tokens else None)
        return min(cap for cap in caps if cap is not None)


class GenerationSpec(GenerationCaps):
    """How every arm generates.

    Attributes:
        rows: rows per batch; YAML may call it `batch_size`. It can move a logit by rounding, so it belongs to a cell's
            identity.
    """

    rows: int = Field(ge=1, le=LARGEST_COUNT, validation_alias=ROWS)

    @property
    def problems_per_shard(self) -> int:
        """Size of a shard's block of problems."""
        return self.block or self.rows


class AutoGeneration(GenerationCaps):
    """`{rows: auto, memory: 80GiB, …}`: as many rows as fit, the same number for every arm.

    The number follows from the declaration alone, not from the machine, and is what goes into identities, as if it had been
    written. It changes with what it follows from: another arm, budget or task may leave room for fewer rows, and then all
    cells are other cells. A results folder keeps the number that it began with; elsewhere, write it down.

    Attributes:
        rows: `auto`.
        memory: bytes for weights, cache and workspace of one worker, such as `80GiB` or `24GB`; a tenth is kept free.
    """

    rows: Literal["auto"] = Field(validation_alias=ROWS)
    memory: int = Field(gt=0)

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, memory: Any) -> int:
        try:
            return int(_BYTES.validate_python(memory))
        except ValidationError:
            raise ValueError(f"must be a size such as 80GiB, got {memory!r}") from None

    def with_rows(self, rows: int) -> GenerationSpec:
        """Return the same with a number."""
        return GenerationSpec(rows=rows, **self.model_dump(exclude={"rows", "memory"}))
