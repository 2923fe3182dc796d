"""Teacher forcing: a reference text is fed, and what the model thinks of each of its tokens is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from designspace.axes import Decoding, Reference


@dataclass(frozen=True)
class TeacherForced(Decoding):
    """Feed a reference text token by token through the compressed cache, and score each token [williams1989].

    Kept of each token is its log-probability and whether it is the most probable one; beside them stand the
    log-probabilities of the same tokens under the full cache. One forward pass per token, as in generating; nothing is drawn,
    so the measure has no sampling noise. The text is no answer of the model and is never graded (docs/fidelity.md).

    Attributes:
        of: which text is fed. "full" (the default): what the full cache writes for the same prompt, greedily, within the
            sweep's `max_new_tokens`. "solution": the solution that comes with the problem.
    """

    kind: ClassVar[str] = "teacher-forced"
    citation: ClassVar[str | None] = "williams1989"

    of: Reference = "full"

    @property
    def reference(self) -> Reference:
        """Return `of`."""
        return self.of

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the argmax of the logits [B,V], [B] int64: what a token of the reference agrees with, or does not."""
        return logits.argmax(dim=-1)

    def draws(self, max_new_tokens: int) -> int:
        """Return 0, because no random number is used."""
        return 0
