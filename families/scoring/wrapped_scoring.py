"""What the scorings that rework another scoring share: the base, its protection, and what can serve as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Composition, Geometry, Needs, Scoring, Selector, View
from designspace.errors import DeclarationError, InvariantViolation
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Wrapper(Scoring):
    """A scoring that reworks the scores of another one, the base.

    The base gives scores and what must be observed for them. Selection and protection are the wrapper's: a base with a
    selector of its own is refused, as it would have no effect.

    Attributes:
        scoring: the base.
        sinks, recent: protection of the whole. 0 takes over the base's; any other number must cover the base's, whose
            scores may mean nothing for what it protects (an observation window has none). The field holds what is in force.
    """

    scoring: Scoring = field(kw_only=True)
    selector: Selector = field(default=TopK())

    def __post_init__(self) -> None:
        """Take over or check the protection, and check the base.

        Raises:
            DeclarationError: a base that ranks nothing, has a selector, or protects more than this does.
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
            if 0 < own < bases:
                raise DeclarationError(f"{name} must be 0 or at least the base's {bases}, got {name}={own}")
            object.__setattr__(self, name, max(own, bases))

    def needs(self) -> Needs:
        """Return what the base needs."""
        return self.scoring.needs()

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Return the base's reason against this geometry."""
        return self.scoring.unsupported_reason(geometry)

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Return the base's objection to this composition."""
        return self.scoring.conflict_reason(mechanism)


@dataclass(frozen=True)
class ValueWeighted(Wrapper):
    """A wrapper that multiplies attention-like scores by something of the values.

    That only means something for scores that are probabilities up to a factor: a base must say that its scores are
    comparable between heads, must not be negative, and must not have weighed the values already.
    """

    comparable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the base.

        Raises:
            DeclarationError: a base that is no attention, or has the values in it.
        """
        super().__post_init__()
        base = self.scoring
        if not base.comparable:
            raise DeclarationError(
                f"scoring of {self.kind!r} must have attention-like scores (comparable between heads), "
                f"got scoring={base.kind!r}"
            )
        if isinstance(base, Wrapper) or (isinstance(base, ExpectedAttention) and base.value_norm):
            hint = " with value_norm=True" if isinstance(base, ExpectedAttention) else ""
            raise DeclarationError(
                f"scoring of {self.kind!r} must not weigh values itself, got scoring={base.kind!r}{hint}"
            )

    def base_scores(self, view: View) -> Tensor:
        """Return the base's scores, [L,E,H_kv,C] float32, zero at free slots.

        Raises:
            InvariantViolation: the base gave a held token a negative score.
        """
        scores = self.scoring.score(view).masked_fill(~view.valid, 0.0)
        if bool((scores < 0).any()):
            raise InvariantViolation(
                f"scoring {self.kind!r} needs scores of at least 0, but scoring {self.scoring.kind!r} gave a negative one"
            )
        return scores
