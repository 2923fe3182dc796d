"""How a decoding strategy steers one generation: what its controller sees, and what it may ask of the engine.

Every extra token that this costs, forwarded or held, is charged to the generation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from designspace.axes.view import Observed


class TextCodec(Protocol):
    """What strategies may know of a model's tokens."""

    def token_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a piece of text, without any special token added."""

    def ids_with(self, text: str) -> frozenset[int]:
        """Return the tokens whose own text contains `text`."""


class StepSeen(NamedTuple):
    """One decode step, for cadences that react to the text.

    tokens: [B] int64, fed in this step. logits: [B,V] float32, what came of it. observed: of all rows, before any cut.
    """

    tokens: Tensor
    logits: Tensor
    observed: Observed
    positions: Tensor
    text: TextCodec


@dataclass(frozen=True)
class Action:
    """What stands in the text for the token that was chosen, and what happens to the cache before the next step.

    Spans are half-open ranges of indices into the generated tokens.

    Attributes:
        tokens: at least one token, fed one per step; the later ones are not chosen but forced.
        pin: a span whose slots are never cut from now on. drop: a span whose slots are freed now.
        hold: True suspends all cuts of the row, False resumes them.
        refresh: encode the whole text anew and cut it to the row's size.
        checkpoint: remember the row as it is once `tokens` stand in the text. rollback: return to the last checkpoint;
            `tokens` are then ignored.
        temperature_scale: from now on divide logits by this; 1 is the strategy's own temperature.
    """

    tokens: tuple[int, ...]
    pin: tuple[int, int] | None = None
    drop: tuple[int, int] | None = None
    hold: bool | None = None
    refresh: bool = False
    checkpoint: bool = False
    rollback: bool = False
    temperature_scale: float | None = None


class Controller(ABC):
    """The state of one generation's steering."""

    @abstractmethod
    def on_token(self, token: int, probability: float) -> Action:
        """Return what to do with the token just chosen; `probability` is the model's own of its likeliest token."""
