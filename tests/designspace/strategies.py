"""Few compositions in which every registered strategy occurs, and a run of each that meets all an engine does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from designspace.axes import Generation, Mechanism, Request, Strategy
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.decode_step import StepKind
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.testing.composition import budget_for, composed, declare, registered, single_sample

SPEC = ModelSpec.bundled("pocket-llama")
ROWS, N_NEW, TOKENS = 4, 40, 36
PROMPTS = (30, 24, 33, 9, 21, 28, 12)


def every_strategy_once(*, hidden_states: bool = True) -> list[Mechanism]:
    """Few compositions in which each strategy of each axis occurs: first those of a cut, then those of when and how.

    hidden_states: whether strategies with gates or sentences are among them, which no compiled step can feed.
    """
    cuts = {"cadence": ("every-k", "never"), "decoding": ("sampling",)}
    times = {"representation": ("full",), "head_routing": ("uniform",), "scoring": ("full", "r-kv", "h2o")}
    geometry = load_model(SPEC).geometry
    products = [declare(_registered(some, hidden_states), geometry, TOKENS, ("none",)) for some in (cuts, times)]
    return [composed(found.combination(row)) for found in products for row in single_sample(found)]


def _registered(only: Mapping[str, tuple[str, ...]], hidden_states: bool) -> dict[str, list[Strategy]]:
    return {
        axis: [
            strategy
            for strategy in found
            if strategy.kind in only.get(axis, (strategy.kind,))
            and (hidden_states or not strategy.needs().hidden_states)
        ]
        for axis, found in registered().items()
    }


def run(
    loaded: LoadedModel, made: Mechanism, step: StepKind, order: Sequence[int] = range(len(PROMPTS))
) -> dict[str, tuple[object, ...]]:
    """Run more texts than rows and return everything of each generation but its wall time."""
    random = torch.Generator().manual_seed(3)
    todo = [
        Request(f"p{i}", tuple(torch.randint(4, 97, (n,), generator=random).tolist()), stream_key(7, f"p{i}", 0))
        for i, n in enumerate(PROMPTS)
    ]
    engine = Engine(
        loaded, made, budget_for(made, TOKENS), rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=max(PROMPTS),
        artefacts={name: load_artefact(SPEC, name) for name in made.needs().calibrations}, step=step, burst=3,
    )  # fmt: skip
    return {g.problem_id: _told(g) for g in engine.generate([todo[i] for i in order])}


def _told(g: Generation) -> tuple[object, ...]:
    return (g.token_ids, g.cache_tokens_per_step, g.n_events, g.mean_cache_bytes)


EVERY_STRATEGY = [pytest.param(made, id=made.name) for made in every_strategy_once()]
EVERY_COMPILED = [pytest.param(made, id=made.name) for made in every_strategy_once(hidden_states=False)]
