"""Chain-of-thought prompting: a sentence after the prompt, worked examples before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class ChainOfThought(Wrapping):
    """Ask for step-by-step reasoning by a sentence after the prompt, or show it in worked examples [kojima2022].

    Worked examples come from [wei2022cot]. Both texts are added to the prompt unchanged, spaces and line ends included,
    and count as prompt tokens in the cache. The original writes the sentence at the start of the answer; here it ends
    the question, inside the model's chat template if there is one.

    Attributes:
        text: the sentence after the prompt; empty for none. A model with a small vocabulary needs one in its own words.
        exemplars: worked examples before the prompt; empty (the default) for none.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "chain-of-thought"
    citation: ClassVar[str | None] = "kojima2022"

    text: str = "\n\nLet's think step by step."
    exemplars: str = ""

    def format_prompt(self, prompt: str) -> str:
        """Return the worked examples, the prompt and the sentence, in this order."""
        return f"{self.exemplars}{super().format_prompt(prompt)}{self.text}"
