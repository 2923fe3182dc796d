"""Refresh: encode the whole text anew at intervals, so that what was cut is open to selection again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Action, Controller, TextCodec
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class Refresh(Wrapping):
    """After every `every` generated tokens re-encode prompt and text and select anew what the row held in number.

    What is selected goes by the observations of that full pass, as after a prompt. The row holds as many tokens as before,
    so the cadence and its mean are untouched; the tokens forwarded are charged as extra ones and the whole text as the
    peak. Related: a full cache that is kept and attended to at intervals [xu2025refreshkv]; here nothing is kept.

    Attributes:
        every: interval in generated tokens; past the longest text it has no effect.
    """

    kind: ClassVar[str] = "refresh"
    citation: ClassVar[str | None] = "xu2025refreshkv"

    every: Annotated[int, Ge(1)] = 128

    def controller(self, text: TextCodec) -> Controller:
        """Return a count of the tokens."""
        return _Clock(self.every)


class _Clock(Controller):
    def __init__(self, every: int) -> None:
        self.every, self.n_tokens = every, 0

    def on_token(self, token: int, probability: float) -> Action:
        """Ask for a refresh when the interval is over."""
        self.n_tokens += 1
        return Action((token,), refresh=self.n_tokens % self.every == 0)
