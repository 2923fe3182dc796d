"""Scorings that change the scores of another scoring, their base: what they share, and what may serve as a base."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Composition, Geometry, Needs, Scoring, Selector, View, WindowShare
from designspace.errors import DeclarationError, InvariantViolation
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.scissorhands import Scissorhands
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Wrapper(Scoring):
    """Change the scores of another scoring, the base.

    The base gives scores and says what must be observed for them. Selection and protection belong to the wrapper: a
    base with a selector of its own is refused, because that selector would have no effect.

    Attributes:
        scoring: the base.
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks, recent: numbers of first and newest tokens that are always kept. 0 takes over what the base has. Any other
            number must be at least the base's, whose scores may mean nothing for tokens that it protects (an
            observation window has no scores), and so must a share of the size after an event; a number and a share
            cannot be compared. After construction, both fields hold what is in force.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    scoring: Scoring = field(kw_only=True)
    selector: Selector = field(default=TopK())

    def __post_init__(self) -> None:
        """Take over or check the protection, and check the base.

        Raises:
            DeclarationError: the base ranks nothing, has a selector, or protects more tokens than the wrapper does.
        """
        super().__post_init__()
        base = self.scoring
        if base.keeps_everything:
            raise DeclarationError(f"scoring of {self.kind!r} must rank tokens, got scoring={base.kind!r}")
        if base.selector != TopK():
            raise DeclarationError(
                f"selector belongs to the outer scoring {self.kind!r}, where it has an effect, "
                f"got scoring.selector={base.selector.kind!r}"
            )
        for name in ("sinks", "recent"):
            own, bases = getattr(self, name), getattr(base, name)
            if not _covers(own, bases):
                raise DeclarationError(f"{name} must be 0 or at least the base's {bases}, got {name}={own}")
            object.__setattr__(self, name, own or bases)

    @property
    def follows_target(self) -> bool:
        """Whether the scores of the base depend on the size that an event cuts to."""
        return self.scoring.follows_target

    def needs(self) -> Needs:
        """Return the needs of the base."""
        return self.scoring.needs()

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Return why the base cannot work on a model of this geometry, or None."""
        return self.scoring.unsupported_reason(geometry)

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Return why the base has no meaning in this composition, or None."""
        return self.scoring.conflict_reason(mechanism)


def _covers(own: int | WindowShare, base: int | WindowShare) -> bool:
    """Return whether a protection is left to the base, or protects at least what the base does whatever the budget."""
    if own == 0 or base == 0:
        return True
    if isinstance(own, WindowShare) and isinstance(base, WindowShare):
        return own.share >= base.share
    return isinstance(own, int) and isinstance(base, int) and own >= base


@dataclass(frozen=True)
class ValueWeighted(Wrapper):
    """Multiply the attention scores of a base by a quantity of the values.

    This has a meaning only for scores that are attention probabilities up to a factor. So the base must say that its
    scores are comparable between heads, must not give negative scores, and must not have weighted the values already.
    """

    comparable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the base.

        Raises:
            DeclarationError: the scores of the base are no attention probabilities, or contain the values already.
        """
        super().__post_init__()
        base = self.scoring
        if not base.comparable:
            raise DeclarationError(
                f"scoring of {self.kind!r} must have attention-like scores (comparable between heads), "
                f"got scoring={base.kind!r}"
            )
        if isinstance(base, Scissorhands) and base.normalise == "count":
            raise DeclarationError(
                f"scoring of {self.kind!r} must have attention-like scores, got scoring={base.kind!r} "
                "with normalise='count': use 'rate'"
            )
        if isinstance(base, Wrapper) or (isinstance(base, ExpectedAttention) and base.value_norm):
            hint = " with value_norm=True" if isinstance(base, ExpectedAttention) else ""
            raise DeclarationError(
                f"scoring of {self.kind!r} must not weigh values itself, got scoring={base.kind!r}{hint}"
            )

    def needs(self) -> Needs:
        """Return the needs of the base, and the values."""
        return super().needs() | Needs(values=True)

    def base_scores(self, view: View) -> Tensor:
        """Return the scores of the base, [L,E,H_kv,C] float32, zero at free slots.

        Raises:
            InvariantViolation: the base gave a held token a negative score.
        """
        scores = self.scoring.score(view).masked_fill(~view.valid, 0.0)
        if bool((scores < 0).any()):
            raise InvariantViolation(
                f"scoring {self.kind!r} needs scores of at least 0, but scoring {self.scoring.kind!r} gave a negative one"
            )
        return scores
