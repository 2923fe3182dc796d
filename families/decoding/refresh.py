"""Refresh: the whole text is encoded again at intervals, so that evicted tokens can be selected again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Action, Controller, TextCodec
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class Refresh(Wrapping):
    """Encode prompt and text again at intervals, and select again which tokens the cache keeps [xu2025refreshkv].

    The selection uses the observations of this full pass, as after a prompt. The row keeps as many tokens as before, so
    the cadence and its mean do not change. The tokens of the pass are charged as extra ones, and the whole text as the
    peak. The cited method is related: it keeps a full cache beside the small one and attends to it at intervals; here
    none is kept.

    Attributes:
        every: interval in generated tokens; 128 by default. An interval longer than the text has no effect.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "refresh"
    citation: ClassVar[str | None] = "xu2025refreshkv"

    every: Annotated[int, Ge(1)] = 128

    def controller(self, text: TextCodec) -> Controller:
        """Return a controller that counts the tokens."""
        return _Clock(self.every)


class _Clock(Controller):
    def __init__(self, every: int) -> None:
        self.every, self.n_tokens = every, 0

    def on_token(self, token: int, probability: float) -> Action:
        """Ask for a refresh at the end of each interval."""
        self.n_tokens += 1
        return Action((token,), refresh=self.n_tokens % self.every == 0)
