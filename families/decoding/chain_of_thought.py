"""Chain-of-thought prompting: a cue after the prompt, worked examples before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class ChainOfThought(Wrapping):
    """Ask for the reasoning by a cue [kojima2022], or show it in worked examples [wei2022cot].

    Both are put to the prompt as they are, spaces and line ends included, and count as prompt tokens in the cache. The
    original writes the cue at the start of the answer; here it ends the question, inside whatever chat template the model
    has.

    Attributes:
        text: the cue; empty: none. A model with a small vocabulary needs one in its own words.
        exemplars: put before the prompt; empty: none.
    """

    kind: ClassVar[str] = "chain-of-thought"
    citation: ClassVar[str | None] = "kojima2022"

    text: str = "\n\nLet's think step by step."
    exemplars: str = ""

    def format_prompt(self, prompt: str) -> str:
        """Return exemplars, prompt and cue."""
        return f"{self.exemplars}{super().format_prompt(prompt)}{self.text}"
