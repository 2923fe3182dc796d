"""The number of rows: the most on the ladder that every arm holds, and who stands in the way."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from designspace.errors import DeclarationError
from designspace.memory.batch_rows import LADDER, SHARE, NamedArm, check_fits, plan_at, plan_rows
from designspace.memory.footprint import Footprint


@dataclass(frozen=True)
class Linear:
    """An arm whose memory is known: so many bytes, and so many per row."""

    fixed: int
    per_row: int

    def at(self, rows: int) -> Footprint:
        """Return it."""
        return Footprint(weights=self.fixed, cache=self.per_row * rows, workspace=0)


def named(name: str, fixed: int, per_row: int) -> NamedArm:
    """Return an arm with a name."""
    return NamedArm(name, "model", Linear(fixed, per_row))  # type: ignore[arg-type]


def test_the_ladder() -> None:
    """Powers of two and one and a half times each, to 1024."""
    assert LADDER == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def test_against_trying_every_number() -> None:
    """For random arms the plan is the largest step with which all of them fit, and that alone."""
    draw = random.Random(0)
    for _ in range(200):
        arms = [named(f"a{i}", draw.randrange(1000), draw.randrange(1, 500)) for i in range(draw.randrange(1, 5))]
        memory = draw.randrange(2000, 200_000)
        fitting = [n for n in LADDER if all(arm.memory.at(n).total <= int(SHARE * memory) for arm in arms)]
        if not fitting:
            with pytest.raises(DeclarationError):
                plan_rows(arms, memory)
            continue
        assert plan_rows(arms, memory).rows == max(fitting)


def test_the_limiting_arm_is_named() -> None:
    """The one that does not fit with more rows, although another takes more with these."""
    arms = [named("steady", 880, 0), named("steep", 0, 10)]
    found = plan_rows(arms, 1000)
    assert (found.rows, found.arm, found.footprint.cache) == (64, "steep", 640)
    assert str(found) == (
        "64 rows in 0.0 MiB: limited by steep on model: 0.0 MiB cache + 0.0 MiB workspace + 0.0 MiB weights"
    )


def test_the_ladder_ends() -> None:
    """With memory to spare it is said that nothing limits."""
    found = plan_rows([named("small", 0, 1), named("large", 5, 1)], 2**30)
    assert (found.rows, found.arm) == (1024, "large")
    assert "as many as there may be; the largest is large" in str(found)


def test_not_even_one_row() -> None:
    """The arm and its bytes are named."""
    with pytest.raises(DeclarationError, match=r"memory must hold one row of every arm, got 1\.0 MiB.*; big on model"):
        plan_rows([named("small", 0, 1), named("big", 2**20, 1)], 2**20)


def test_a_number_that_is_known() -> None:
    """The arm that takes most with it."""
    found = plan_at([named("a", 0, 3), named("b", 100, 1)], 10, 7)
    assert (found.rows, found.memory, found.arm) == (7, 10, "b")


def test_what_fits_passes_and_what_does_not_is_named() -> None:
    """With the number of rows that would fit."""
    arms = [named("small", 0, 1), named("large", 0, 2**20)]
    check_fits(arms, 10, 10 * 2**20)
    with pytest.raises(
        DeclarationError, match=r"got rows=11: large on model takes 11\.0 MiB cache.*; at most 8 rows fit"
    ):
        check_fits(arms, 11, 10 * 2**20)
    with pytest.raises(DeclarationError, match="not even one row fits"):
        check_fits(arms, 1, 2**20 - 1)
