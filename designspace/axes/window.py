"""The window of newest tokens that every event keeps: a number of tokens, or a share of what an event leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Lt

from designspace.axes.parameters import check_parameters

_ROUNDING = 1e-9


@dataclass(frozen=True)
class WindowShare:
    """A share of the smallest size that an event leaves, in whole tokens, rounded down: `{share: 0.5}` in YAML.

    The size is the cadence's for the budget, so one declaration means the same at every budget. It is one number for a
    whole run, also where the cadence changes sizes over the text or the head routing gives heads different ones.
    """

    form: ClassVar[str] = "{share: …}"  # what messages call it

    share: Annotated[float, Gt(0), Lt(1)]

    def __post_init__(self) -> None:
        """Check the share.

        Raises:
            DeclarationError: it is no number between 0 and 1.
        """
        check_parameters(self)

    def __str__(self) -> str:
        """Return it as YAML has it."""
        return f"{{share: {self.share:g}}}"

    def tokens(self, size: int) -> int:
        """Return the share of `size` tokens."""
        return int(self.share * size + _ROUNDING)


Window = Annotated[int, Ge(0)] | WindowShare
