"""An arm whose axis is said to have no effect writes the texts of the arm without it; one of which nothing is said does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from designspace.axes import Budget, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.duo import Duo
from families.head_routing.dynamic_kv import DynamicKV
from families.head_routing.head_kv import HeadKV
from families.head_routing.pyramid import Pyramid
from families.head_routing.squeeze import Squeeze
from families.representation.kivi import Kivi
from families.representation.kvtuner import KVTuner
from families.scoring.knorm import KNorm
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.facility_location import FacilityLocation
from families.scoring.selectors.mmr import MMR
from families.scoring.triattention import TriAttention

SPEC = ModelSpec.bundled("pocket-llama")
BUDGET = Budget(24)
GLOBAL, PER_HEAD = TriAttention(), TriAttention(scope="layer-head")
PAIRS = ((4, 4), (2, 2))

IDLE: dict[str, dict[str, Any]] = {
    "ada-kv under one ranking": {"scoring": GLOBAL, "head_routing": AdaKV()},
    "blended ada-kv under one ranking": {"scoring": GLOBAL, "head_routing": AdaKV(safeguard="blend")},
    "ada-kv by mass under one ranking": {"scoring": GLOBAL, "head_routing": AdaKV(normalise="mass")},
    "dynamic-kv under one ranking": {"scoring": GLOBAL, "head_routing": DynamicKV()},
    "ada-kv with a full floor": {"head_routing": AdaKV(floor=1.0)},
    "flat pyramid": {"head_routing": Pyramid(beta=1.0)},
    "headkv without temperature": {"head_routing": HeadKV(temperature=0.0)},
    "squeeze of everything": {"head_routing": Squeeze(p=1.0)},
    "duo of retrieval heads": {"head_routing": Duo(retrieval=1.0)},
    "kivi's default window": {"representation": Kivi(group=16)},
    "kvtuner's default window": {"representation": KVTuner(group=16, residual=48, pairs=PAIRS[:1])},
    "diversity of no weight": {"scoring": replace(KNorm(), selector=Diversity(weight=0.0))},
    "relevance alone": {"scoring": replace(KNorm(), selector=MMR(lam=1.0))},
    "no coverage": {"scoring": replace(KNorm(), selector=FacilityLocation(mix=1.0))},
}
BUSY: dict[str, dict[str, Any]] = {
    "ada-kv": {"head_routing": AdaKV()},
    "ada-kv under rankings per head": {"scoring": PER_HEAD, "head_routing": AdaKV()},
    "dynamic-kv": {"head_routing": DynamicKV()},
    "pyramid under one ranking": {"scoring": GLOBAL, "head_routing": Pyramid()},
    "squeeze": {"head_routing": Squeeze()},
    "kivi with a short window": {"representation": Kivi(group=16, residual=16)},
    "diversity": {"scoring": replace(KNorm(), selector=Diversity(weight=50.0))},
}
PLAIN: dict[str, Any] = {"scoring": KNorm(), "decoding": Greedy()}


def made(name: str, axes: Mapping[str, Any]) -> Mechanism:
    """Return knorm, uniform, every-step and full but for these axes."""
    return mechanism("knorm").override(name, **{**PLAIN, **axes})


def without(axes: Mapping[str, Any]) -> Mechanism:
    """Return the arm without the axis in question: its routing uniform, its representation full, its selector top-k."""
    scoring = axes.get("scoring", KNorm())
    return made("plain", {"scoring": replace(scoring, selector=KNorm().selector)})


@cache
def model() -> LoadedModel:
    """Return the bundled model."""
    return load_model(SPEC)


@cache
def texts(arm: Mechanism) -> tuple[tuple[int, ...], ...]:
    """Return what the arm writes after a few prompts."""
    random = torch.Generator().manual_seed(3)
    todo = [
        Request(f"p{i}", tuple(torch.randint(4, 97, (n,), generator=random).tolist()), stream_key(7, f"p{i}", 0))
        for i, n in enumerate((22, 30, 12, 26))
    ]
    engine = Engine(
        model(), arm, BUDGET, rows=4, max_new_tokens=48, max_prompt_tokens=30, step="plain",
        artefacts={name: load_artefact(SPEC, name) for name in arm.needs().calibrations},
    )  # fmt: skip
    return tuple(g.token_ids for g in sorted(engine.generate(todo), key=lambda g: g.problem_id))


@pytest.mark.parametrize("name", IDLE)
def test_an_axis_without_effect_is_known_before_anything_runs(name: str) -> None:
    """It is said with a reason, of that axis alone, and the texts are those of the plain arm."""
    arm = made("idle", IDLE[name])
    idle = arm.idle_axes(arm.bind(BUDGET), model().geometry)

    assert len(idle) == 1
    assert next(iter(idle)) in {*IDLE[name], "selector"}
    assert texts(arm) == texts(without(IDLE[name]))


@pytest.mark.parametrize("name", BUSY)
def test_an_axis_with_an_effect_is_left_in_peace(name: str) -> None:
    """Nothing is said, and the texts are others."""
    arm = made("busy", BUSY[name])

    assert arm.idle_axes(arm.bind(BUDGET), model().geometry) == {}
    assert texts(arm) != texts(without(BUSY[name]))


def test_one_kv_head_leaves_nothing_to_compete_for() -> None:
    """That is a matter of the model: with more heads nothing is said."""
    arm = made("arm", {"head_routing": AdaKV()})
    alone = replace(model().geometry, n_kv_heads=1)

    assert "head_routing" in arm.idle_axes(arm.bind(BUDGET), alone)
    assert arm.idle_axes(arm.bind(BUDGET), None) == {}


def test_the_exact_window_is_held_against_the_budget_at_hand() -> None:
    """The same representation counts at a larger budget, and where there is no steady size nothing is said."""
    arm = made("arm", {"representation": Kivi(group=16, residual=32)})

    assert "representation" in arm.idle_axes(arm.bind(Budget(32)))
    assert arm.idle_axes(arm.bind(Budget(64))) == {}
    growing = arm.override("growing", cadence=PrefillOnly())
    assert growing.idle_axes(growing.bind(Budget(16, "nominal"))) == {}
