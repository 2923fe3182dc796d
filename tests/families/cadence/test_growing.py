"""The growing cache: sizes by hand, the ledger of a running engine, and that it is never given a budget it has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from designspace.axes import Budget, Mechanism, Request
from designspace.engine.engine import Engine
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from designspace.testing.conformance import check_mechanism
from families.cadence.growing import Growing
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.scoring.h2o import H2O
from families.scoring.rpc import RPC

SMALL = Growing(period=8, ratio=4, window=3)


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """A bundled model that never stops."""
    return replace(load_model(ModelSpec.bundled("pocket-llama")), eos_ids=frozenset())


def rpc(**axes: object) -> Mechanism:
    """The published system at the scale of the bundled models."""
    return mechanism("rpc").override(
        "rpc", **{"scoring": RPC(recent=3), "cadence": SMALL, "decoding": Greedy(), **axes}
    )


def test_sizes_by_hand() -> None:
    """Events at steps 11, 19 and 27 of a prompt of 10: the window and 2, 4 and 6 of each 8 tokens stay."""
    sizes = SMALL.schedule(Budget(1)).simulate(10, 29)

    assert sizes == [*range(11, 22), *range(16, 24), *range(18, 26), 20, 21]


@pytest.mark.parametrize(("period", "ratio", "window"), [(8, 4.0, 3), (5, 5.0, 0), (7, 1.5, 2), (1024, 4.0, 32)])
def test_against_a_loop(period: int, ratio: float, window: int) -> None:
    """Sizes, peaks and the mean between events, of prompts of several lengths."""
    schedule, gain = Growing(period=period, ratio=ratio, window=window).schedule(Budget(1)), int(period / ratio)
    for n_prompt in (1, 9, 500):
        expected, size, left, n_events = [], n_prompt, 0, 0
        for generated in range(1, 5 * period + window):
            size += 1
            expected.append(size)
            if generated == window + (n_events + 1) * period:
                n_events += 1
                size = left = n_prompt + n_events * gain + window
        found = schedule.simulate(n_prompt, len(expected))
        between = found[window + period : window + 2 * period]

        assert found == expected
        assert sum(between) / period == n_prompt + gain + window + (period + 1) / 2
        for n_steps in (1, window + period, window + period + 1, 3 * period, len(expected)):
            assert max(found[:n_steps]) == schedule.peak_bound(n_prompt, n_steps)
        assert schedule.smallest_size(n_prompt) == n_prompt + gain + window
        assert schedule.largest_size(n_prompt, len(expected)) == left


def test_the_engine_keeps_to_it(pocket: LoadedModel) -> None:
    """Every row holds what its own prompt asks for, whole prompt included, in few bursts; bytes are those of the tokens."""
    engine = Engine(pocket, rpc(), None, rows=2, max_new_tokens=40, max_prompt_tokens=30)
    prompts = [tuple(range(5, 5 + n)) for n in (28, 12, 25)]
    done = {g.problem_id: g for g in engine.generate(Request(str(len(ids)), ids, b"k") for ids in prompts)}

    for n_prompt in (28, 12, 25):
        generation = done[str(n_prompt)]
        expected = SMALL.schedule(Budget(1)).simulate(n_prompt, 39)
        per_token = 2 * pocket.geometry.head_dim * 4 * pocket.geometry.n_heads_total
        assert list(generation.cache_tokens_per_step) == expected
        assert generation.mean_cache_bytes == pytest.approx(per_token * generation.mean_cache_tokens)
        assert generation.prompt_survival_mean == 1.0 and generation.n_events == 4


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"scoring": H2O()},
        {"head_routing": AdaKV()},
        {"decoding": Refresh(every=6).with_default_chooser(Sampling())},
        {"decoding": Rollback(boundary="s", threshold=0.9).with_default_chooser(Sampling())},
    ],
    ids=["rpc", "h2o, prompt evictable", "ada-kv", "refresh", "rollback"],
)
def test_compositions_run_as_they_should(pocket: LoadedModel, axes: dict[str, object]) -> None:
    """Rows do not depend on their mates, and the ledger is the simulator's."""
    check_mechanism(rpc(**axes), pocket, None, n_new_tokens=32)


def test_no_budget_is_taken() -> None:
    """An arm that is handed one is refused, rather than labelled with it."""
    assert not mechanism("rpc").budget_applies
    with pytest.raises(
        DeclarationError, match="'rpc' takes no budget, as the cache of cadence 'growing' follows from the"
    ):
        rpc().bind(Budget(64))


def test_what_is_protected_must_fit() -> None:
    """The prompt comes on top of the size, a longer window does not."""
    rpc().bind(None, longest_prompt=10_000)
    with pytest.raises(DeclarationError, match="recent=7, after-event size=5: 3 tokens too few"):
        rpc(scoring=RPC(recent=7)).bind(None)
    with pytest.raises(DeclarationError, match=r"sinks \+ recent must be smaller .* after-event size=6$"):
        rpc(scoring=RPC(recent=7, protect="none")).bind(None)


def test_a_period_leaves_something() -> None:
    """A period shorter than its ratio would leave no token of it."""
    with pytest.raises(DeclarationError, match="period must be at least ratio, got period=3, ratio=4"):
        Growing(period=3)
