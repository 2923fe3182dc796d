"""State lines: the model is asked to write down its intermediate results, and those lines are never evicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, MinLen

from designspace.axes import Action, Controller, TextCodec
from designspace.errors import DeclarationError
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class StateEmit(Wrapping):
    """Ask for short lines that state the intermediate results, and never evict those lines [sun2026minimal].

    When a line ends, its tokens from the marker on are pinned: their slots are kept for the rest of the text and count
    in the budget, like the protected window. A line is pinned whole, marker and end included, if it still fits under
    `most`. Tokens that were evicted before their line ended are not brought back, so a `recent` window as long as a
    line helps. The paper gives neither the wording nor the rule for pinning; both are ours.

    Attributes:
        instruction: text that is added after the prompt, unchanged; empty to ask for nothing.
        marker: text that begins a state; "State:" by default.
        end: text that ends a line; a line end by default.
        most: largest number of pinned tokens; 32 by default, 0 for none.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "state-emit"
    citation: ClassVar[str | None] = "sun2026minimal"

    instruction: str = (
        '\n\nAfter every few steps write a line that begins with "State:" and names, in as few words as possible, '
        "the values that are still needed."
    )
    marker: Annotated[str, MinLen(1)] = "State:"
    end: Annotated[str, MinLen(1)] = "\n"
    most: Annotated[int, Ge(0)] = 32

    def format_prompt(self, prompt: str) -> str:
        """Return the prompt with the instruction."""
        return super().format_prompt(prompt) + self.instruction

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a controller that reads lines, or None if nothing may be pinned.

        Raises:
            DeclarationError: no token of the model contains the end of a line.
        """
        if self.most == 0:
            return None
        ends = text.ids_with(self.end)
        if not ends:
            raise DeclarationError(f"end must be part of a token of the model, got end={self.end!r}")
        return _Reader(text.token_ids(self.marker), ends, self.most)


class _Reader(Controller):
    def __init__(self, marker: tuple[int, ...], ends: frozenset[int], most: int) -> None:
        self.marker, self.ends, self.n_left = marker, ends, most
        self.n_tokens = 0
        self.line: list[int] = []

    def on_token(self, token: int, probability: float) -> Action:
        """Pin the line that this token ends, if it is a state line that fits."""
        self.line.append(token)
        self.n_tokens += 1
        if token not in self.ends:
            return Action((token,))
        n_state = self._length_of_state()
        self.line.clear()
        if n_state == 0 or n_state > self.n_left:
            return Action((token,))
        self.n_left -= n_state
        return Action((token,), pin=(self.n_tokens - n_state, self.n_tokens))

    def _length_of_state(self) -> int:
        """Return the number of tokens of the line from its first marker on, 0 without a marker."""
        n_marker = len(self.marker)
        starts = range(len(self.line) - n_marker + 1)
        found = next((i for i in starts if tuple(self.line[i : i + n_marker]) == self.marker), None)
        return 0 if found is None else len(self.line) - found
