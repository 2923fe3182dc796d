"""`protect` in a sweep: of one mechanism, of a grid, and as a factor of `effects`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from designspace.errors import DeclarationError
from designspace.registry import mechanism
from sweeps.effects import axis_levels
from sweeps.spec import Sweep

SweepOf = Callable[..., Sweep]


def test_a_base_and_a_composition_may_say_it(sweep_of: SweepOf) -> None:
    """Beside the axes, or among the parameters of the scoring: the same mechanism, so one of them is a repetition."""
    beside = {"name": "kept", "base": "r-kv", "protect": "prompt"}
    (kept,) = sweep_of(mechanisms=[beside]).mechanisms
    assert kept.scoring.protect == "prompt"
    assert kept.override("r-kv", scoring=mechanism("r-kv").scoring).identity() != kept.identity()
    among = {"name": "own", "scoring": {"kind": "knorm", "protect": "prompt"}}
    over = {"name": "other", "scoring": {"kind": "knorm", "protect": "prompt"}, "protect": "none"}
    own, other = sweep_of(mechanisms=[among, over]).mechanisms
    assert (own.scoring.protect, other.scoring.protect) == ("prompt", "none")
    with pytest.raises(DeclarationError, match="is the same composition as 'kept'"):
        sweep_of(mechanisms=[beside, {**beside, "name": "again"}])


def test_a_grid_multiplies_it_and_names_it(sweep_of: SweepOf) -> None:
    """Last, and by turns fastest; a template may name it."""
    grid = {"scoring": ["knorm", "random"], "protect": ["none", "prompt"]}
    arms = sweep_of(mechanisms=[{"grid": grid}]).mechanisms
    assert [arm.name for arm in arms] == [
        "knorm/uniform/every-step/none", "knorm/uniform/every-step/prompt",
        "random/uniform/every-step/none", "random/uniform/every-step/prompt",
    ]  # fmt: skip
    named = sweep_of(mechanisms=[{"grid": grid, "name": "{scoring}+{protect}"}]).mechanisms
    assert [arm.name for arm in named][:2] == ["knorm+none", "knorm+prompt"]


def test_what_cannot_be_protected_may_be_skipped(sweep_of: SweepOf) -> None:
    """The full cache evicts nothing; the reason is kept."""
    sweep = sweep_of(
        mechanisms=[{"grid": {"scoring": ["full", "knorm"], "protect": ["none", "prompt"]}, "illegal": "skip"}]
    )
    assert [arm.name for arm in sweep.mechanisms] == [
        "full/uniform/never/none", "knorm/uniform/every-step/none", "knorm/uniform/every-step/prompt",
    ]  # fmt: skip
    assert [refused.reason for refused in sweep.refused] == [
        "scoring 'full' keeps every token, so protect: prompt would have no effect"
    ]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["prompt", "prompt"], r"grid\.protect\[1\]: must be listed once, got 'prompt' again"),
        (["all"], r"grid\.protect\[0\]: must be none or prompt, got 'all'"),
        ("prompt", r"grid\.protect: must be a list of none or prompt, got 'prompt'"),
        ([], r"grid\.protect: must be a list of none or prompt, got an empty list"),
    ],
)
def test_mistakes_are_named(sweep_of: SweepOf, levels: object, message: str) -> None:
    """With their place."""
    with pytest.raises(DeclarationError, match=message):
        sweep_of(mechanisms=[{"grid": {"scoring": ["knorm"], "protect": levels}}])


def test_a_misspelt_value_gets_the_nearest(sweep_of: SweepOf) -> None:
    """As any other choice."""
    with pytest.raises(
        DeclarationError, match=r"protect: must be 'none' or 'prompt', got 'promt' \(did you mean 'prompt'\?\)"
    ):
        sweep_of(mechanisms=[{"name": "x", "base": "r-kv", "protect": "promt"}])


def test_effects_treat_it_as_an_axis(sweep_of: SweepOf) -> None:
    """A level of its own, and no part of the scoring's."""
    grid = {"scoring": ["knorm", "random"], "protect": ["none", "prompt"]}
    levels = axis_levels(sweep_of(mechanisms=[{"grid": grid, "name": "{scoring}+{protect}"}]).mechanisms)
    assert levels["protect"] == {
        "knorm+none": "none", "knorm+prompt": "prompt", "random+none": "none", "random+prompt": "prompt",
    }  # fmt: skip
    assert levels["scoring"]["knorm+none"] == levels["scoring"]["knorm+prompt"] == "knorm"
