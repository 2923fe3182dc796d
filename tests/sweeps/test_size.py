"""A sweep that would keep a plan silent for minutes is refused by its size, before anything is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from designspace.errors import DeclarationError
from sweeps.spec import Sweep
from sweeps.study import parse_study
from tests.sweeps.studies import study_text, weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": {"count": 10_000}, "mechanisms": ["full", "h2o", "snapkv", "tova"]},
            r"seeds.count: a sweep must have at most 50,000 cells, got 70,000: 7 with 10,000 replicates each",
        ),
        (
            {
                "tasks": [{"name": "chain-arithmetic", "problems": 100_000}],
                "generation": {"temperature": 0.0, "max_new_tokens": 16, "rows": 1},
                "seeds": {"count": 2},
            },
            r"tasks\[0\]: a sweep must have at most 500,000 shards, got 600,000: fewer problems, or more rows",
        ),
    ],
)
def test_too_many_cells_or_shards(sweep_of: Callable[..., Sweep], changes: dict[str, object], message: str) -> None:
    """The number is named, and what makes it so large."""
    with pytest.raises(DeclarationError, match=rf"sweep.yaml:\d+:\d+: {message}"):
        sweep_of(**changes)


def test_a_grid_is_counted_without_making_its_points() -> None:
    """A range of two trillion values."""
    text = study_text(weight({"low": 0.0, "high": 2.0, "step": 2.0**-40}))
    with pytest.raises(DeclarationError, match="a grid must have at most 10000 points, got up to 2199023255553"):
        parse_study(text)


def test_a_step_that_overflows_is_refused() -> None:
    """High over step is no number any more."""
    text = study_text(weight({"low": 0.0, "high": 1.5, "step": 1e-320}))
    with pytest.raises(DeclarationError, match="high must be low plus a number of steps"):
        parse_study(text)
