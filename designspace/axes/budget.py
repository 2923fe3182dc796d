"""A budget: how many tokens each layer and KV head may hold, and what the number means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from designspace.errors import DeclarationError

TokenReading = Literal["mean", "nominal", "peak"]
Reading = Literal["mean", "nominal", "peak", "bytes"]


@dataclass(frozen=True, order=True)
class Budget:
    """Tokens per (layer, KV head), and what the number means.

    `mean`: attended tokens averaged over decode steps in the steady state; `nominal`: size right after an event (the
    reading of most published codes); `peak`: the largest attended size; `bytes`: the mean bytes of that many tokens in
    full precision, so that a smaller representation may hold more of them.

    prompt: of these, the slots that the prompt's tokens compete for among themselves; the trace's tokens compete for the
    others [wu2024scope]. 0: all compete for all.
    """

    tokens: int
    of: Reading = "mean"
    prompt: int = 0

    def __post_init__(self) -> None:
        """Refuse budgets below one token, and parts that are none."""
        if self.tokens < 1:
            raise DeclarationError(f"a budget must be at least 1 token, got tokens={self.tokens}")
        if not 0 <= self.prompt < self.tokens:
            raise DeclarationError(
                f"the prompt's part must leave a slot for the trace, got prompt={self.prompt} of {self.tokens} tokens"
            )
        if self.prompt and self.of == "bytes":
            raise DeclarationError("a budget in bytes has no part for the prompt")

    @property
    def trace(self) -> int:
        """The slots that the tokens after the prompt compete for; those of the whole where it is not divided."""
        return self.tokens - self.prompt

    def share(self, n: int) -> Budget:
        """Return the budget of one of `n` caches that hold this one together, its parts rounded down."""
        return replace(self, tokens=self.prompt // n + self.trace // n, prompt=self.prompt // n)

    def __str__(self) -> str:
        """Return the label used in the store and the report.

        `64` for a mean, else `64 nominal`, `64 peak`, `64 in bytes`; in two parts `64 (24 prompt + 40 trace)`.
        """
        word = {"mean": "", "nominal": " nominal", "peak": " peak", "bytes": " in bytes"}[self.of]
        parts = f" ({self.prompt} prompt + {self.trace} trace)" if self.prompt else ""
        return f"{self.tokens}{word}{parts}"
