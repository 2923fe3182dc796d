"""The grader of programs, which runs none: texts are exported, to be judged where running them is safe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from designspace.errors import InvariantViolation
from designspace.tasks.grading.extraction import after_thinking
from designspace.tasks.grading.grader import Grade, Grader

_FENCED = re.compile(r"```[ \t]*[A-Za-z0-9_+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class CodeGrader(Grader):
    """Grade nothing: what a model wrote is never run here. `designspace export --completions` writes the programs."""

    kind: ClassVar[str] = "code"
    grades: ClassVar[bool] = False
    needs_gold: ClassVar[bool] = False

    def gold_error(self, gold: str) -> str | None:
        """Return None: no gold is needed."""
        return None

    def grade(self, text: str, gold: str) -> Grade:
        """Refuse.

        Raises:
            InvariantViolation: always; `grades` says that nobody may ask.
        """
        raise InvariantViolation("programs are exported, not graded")

    def vote(self, text: str) -> str | None:
        """Return None: programs that do the same are not alike as texts."""
        return None


def completion_of(text: str) -> str:
    """Return the program in a text: the content of its last fenced block, else everything after its thoughts."""
    visible = after_thinking(text)
    blocks = _FENCED.findall(visible)
    return str(blocks[-1]) if blocks else visible.strip("\n")
