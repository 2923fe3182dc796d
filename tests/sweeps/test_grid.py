"""The factorial form of `mechanisms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sweeps.spec import Sweep, parse_sweep
from tests.sweeps.conftest import declaration

SweepOf = Callable[..., Sweep]


def names(sweep: Sweep) -> list[str]:
    """Return the mechanisms' names in order."""
    return [mechanism.name for mechanism in sweep.mechanisms]


def grid(axes: dict[str, Any], **options: Any) -> list[Any]:
    """Return a mechanisms section that is one grid."""
    return [{"grid": axes, **options}]


def test_all_combinations_are_named_after_their_axes(sweep_of: SweepOf) -> None:
    """Scoring varies slowest; baselines are named too."""
    sweep = sweep_of(mechanisms=grid({"scoring": ["snapkv", "h2o"], "cadence": ["every-step", "every-k"]}))
    assert names(sweep) == [
        "snapkv/uniform/every-step",
        "snapkv/uniform/every-k",
        "h2o/uniform/every-step",
        "h2o/uniform/every-k",
    ]


def test_parameters_are_named_only_where_needed(sweep_of: SweepOf) -> None:
    """Strategies of one kind differ by the parameters in which they differ."""
    sweep = sweep_of(
        mechanisms=grid(
            {
                "scoring": [
                    "triattention",
                    {"kind": "triattention", "selector": {"kind": "diversity", "weight": 0.5}},
                    {"kind": "triattention", "selector": {"kind": "diversity", "weight": 1}},
                ],
                "cadence": ["every-step", {"kind": "every-k", "k": 8}, {"kind": "every-k", "k": 16, "prefill": False}],
                "head_routing": ["ada-kv"],
                "representation": ["full"],
            },
        )
    )
    assert len(sweep.mechanisms) == 9
    assert names(sweep)[::4] == [
        "triattention(selector=top-k)/ada-kv/every-step/full",
        "triattention(selector=diversity(weight=0.5))/ada-kv/every-k(k=8,prefill=true)/full",
        "triattention(selector=diversity(weight=1.0))/ada-kv/every-k(k=16,prefill=false)/full",
    ]


def test_a_template_names_combinations(sweep_of: SweepOf) -> None:
    """Axes that the grid leaves out can be named as well."""
    sweep = sweep_of(mechanisms=grid({"scoring": ["snapkv", "h2o"]}, name="{scoring}+{cadence} ({decoding})"))
    assert names(sweep) == ["snapkv+every-step (greedy)", "h2o+every-step (greedy)"]


def test_grids_stand_beside_other_entries(sweep_of: SweepOf) -> None:
    """File order holds."""
    assert names(sweep_of(mechanisms=["full", *grid({"scoring": ["tova"]}), "snapkv"])) == [
        "full",
        "tova/uniform/every-step",
        "snapkv",
    ]


def test_skipped_combinations_are_listed_with_their_reason(sweep_of: SweepOf) -> None:
    """Both those that mean nothing and those whose budget does not fit."""
    sweep = sweep_of(
        budgets=[16, 64],
        mechanisms=grid(
            {"scoring": ["full", "knorm"], "cadence": ["never", "every-step", {"kind": "every-k", "k": 32}]},
            illegal="skip",
        ),
    )
    assert names(sweep) == ["full/uniform/never", "knorm/uniform/every-step", "knorm/uniform/every-k"]
    assert [(unsupported_reason.mechanism, unsupported_reason.budget) for unsupported_reason in sweep.refused] == [
        ("full/uniform/every-step", None),
        ("full/uniform/every-k", None),
        ("knorm/uniform/never", None),
        ("knorm/uniform/every-k", "16"),
    ]
    assert sweep.refused[0].reason.startswith("scoring 'full' ranks nothing")
    assert "largest feasible k is 29" in sweep.refused[-1].reason


AXIS_KINDS = {
    "scoring": ["snapkv", "h2o", "tova", {"kind": "snapkv", "kernel": 3}],
    "head_routing": ["uniform", "ada-kv", "pyramid"],
    "cadence": ["every-step", "every-k", {"kind": "every-k", "k": 4}, "hysteresis"],
    "representation": ["full", "kivi"],
    "decoding": ["greedy", {"kind": "sampling", "temperature": 0.6}],
}


@given(
    st.fixed_dictionaries(
        {"scoring": st.lists(st.sampled_from(range(4)), min_size=1, unique=True)},
        optional={
            axis: st.lists(st.sampled_from(range(len(kinds))), min_size=1, unique=True)
            for axis, kinds in AXIS_KINDS.items()
            if axis != "scoring"
        },
    )
)
def test_a_grid_is_the_product_of_its_axes(chosen: dict[str, list[int]]) -> None:
    """As many mechanisms as combinations, all names different."""
    import json
    from math import prod

    axes = {axis: [AXIS_KINDS[axis][index] for index in indices] for axis, indices in chosen.items()}
    sweep = parse_sweep(json.dumps(declaration(models=MODEL, mechanisms=grid(axes))))
    assert len(set(names(sweep))) == prod(map(len, axes.values()))


# Hypothesis runs one test body many times, so this model needs no fixture: its weights are never asked for.
MODEL = [{"name": "far", "hub": "org/far", "revision": "main"}]
