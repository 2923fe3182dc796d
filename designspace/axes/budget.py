"""A budget: how many tokens each layer and KV head may hold, and what the number means."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    tokens: int
    of: Reading = "mean"

    def __post_init__(self) -> None:
        """Refuse budgets below one token."""
        if self.tokens < 1:
            raise DeclarationError(f"a budget must be at least 1 token, got tokens={self.tokens}")

    def __str__(self) -> str:
        """Return `64` for a mean, else `64 nominal`, `64 peak`, `64 in bytes`: the label used in the store and the report."""
        word = {"mean": "", "nominal": " nominal", "peak": " peak", "bytes": " in bytes"}[self.of]
        return f"{self.tokens}{word}"
