"""State lines: ask the model to write down where it stands, and never cut those lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, MinLen

from designspace.axes import Action, Controller, TextCodec
from designspace.errors import DeclarationError
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class StateEmit(Wrapping):
    """Ask for compact state lines, and pin each of them from its marker on when the line ends [sun2026minimal].

    The paper gives neither the wording nor the rule for pinning; both are ours. A line is pinned whole, marker and end
    included, if it still fits under `most`. Pins are for good and count in the budget, like the protected window. Tokens that
    were cut before their line ended are not brought back, so a `recent` window as long as a line helps.

    Attributes:
        instruction: put after the prompt as it is; empty: nothing is asked for.
        marker: what a state begins with. end: text that ends a line.
        most: pinned tokens at most; 0: none.
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
        """Return a reader of lines, or None where nothing may be pinned.

        Raises:
            DeclarationError: the model has no token with the end of a line in it.
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
        """Pin the line that this token ends, if it is one to pin."""
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
        """Return how many tokens the line has from its first marker on, 0 without one."""
        n_marker = len(self.marker)
        starts = range(len(self.line) - n_marker + 1)
        found = next((i for i in starts if tuple(self.line[i : i + n_marker]) == self.marker), None)
        return 0 if found is None else len(self.line) - found
