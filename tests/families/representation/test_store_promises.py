"""What every one of these representations promises: rows of their own, snapshots, and a place in the engine."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Budget, Generation, Mechanism, Observed, Representation, Request, StoreSpec
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.cadence.never import Never
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.representation.kvquant import KVQuant
from families.representation.kvtuner import KVTuner
from families.representation.mini_cache import MiniCache
from families.representation.qaq import QAQ
from families.representation.subspace import Subspace
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.streaming_llm import StreamingLLM
from tests.families.representation.artefacts import artefacts
from tests.families.representation.drive import Driver, geometry_of, numbers

QAQ_ = QAQ(epsilon=0.05, window=3)
REPRESENTATIONS = [
    Kivi(4, 8, 8, value_bits=2),
    KVTuner(pairs=((8, 4), (4, 2)), group=8, residual=8),
    KVTuner(mean_bits=4.0, group=8, residual=8),
    KVQuant(bits=3),
    QAQ_,
    Subspace(rank=6),
    MiniCache(start=0, threshold=0.45),
]
LENGTHS = (5, 13, 24, 18, 9, 21)
N_NEW = 16


def filled(representation: Representation, seed: int = 0, rows: int = 3) -> Driver:
    """A store of three rows with tokens that were loaded and some that were appended."""
    geometry = geometry_of()
    d = Driver(representation, geometry, rows=rows, artefacts=artefacts(geometry))
    tracked = numbers(2, rows, 2, 24, 3, seed=seed + 4).abs() / 4
    d.observed = Observed(numbers(2, rows, 4, 3, 16, seed=seed + 5), torch.tensor([[7, 8, 9]] * rows))
    d.observed.tracked = {QAQ_.tracker: tracked}
    d.load(numbers(2, rows, 2, 10, 16, seed=seed), numbers(2, rows, 2, 10, 16, seed=seed + 1))
    for step in range(8):
        d.append(numbers(2, rows, 2, 16, seed=100 + step), numbers(2, rows, 2, 16, seed=200 + step), 10 + step)
    return d


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_a_snapshot_brings_a_row_back(representation: Representation) -> None:
    """After other tokens and another text; the other rows stay where they are."""
    d = filled(representation)
    before, held, saved = d.read(), d.held_bytes(), d.store.snapshot(1)
    state = (d.positions.clone(), d.counts.clone())
    d.append(numbers(2, 3, 2, 16, seed=50), numbers(2, 3, 2, 16, seed=51), 18)
    d.load(numbers(2, 3, 2, 7, 16, seed=52), numbers(2, 3, 2, 7, 16, seed=53))
    others = d.store.snapshot(0)
    d.store.restore(1, saved)
    assert all(torch.equal(x, others[name]) for name, x in d.store.snapshot(0).items())

    d.positions, d.counts = state
    assert d.held_bytes()[1] == held[1]
    for a, b in zip(before, d.read(), strict=True):
        assert torch.equal(a[:, 1, :, :18], b[:, 1, :, :18])


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_rows_are_independent(representation: Representation) -> None:
    """Other numbers in row 0 leave rows 1 and 2 bit for bit as they were: loaded, appended, cut."""
    drivers = [filled(representation), filled(representation)]
    keep = numbers(2, 3, 2, 24, seed=3) > 0
    for i, d in enumerate(drivers):
        keys, values = numbers(2, 3, 2, 16, seed=70), numbers(2, 3, 2, 16, seed=71)
        keys[:, 0] += i
        values[:, 0] -= i
        d.append(keys, values, 18)
        here = keep & (d.positions >= 0)
        here[:, 0] = (d.positions[:, 0] % (2 + i)) == 0
        d.keep(here)
        d.append(keys, values, 19)
    one, other = drivers

    assert one.held_bytes()[1:] == other.held_bytes()[1:]
    for a, b in zip(one.read(), other.read(), strict=True):
        assert torch.equal(a[:, 1:], b[:, 1:])
        assert not torch.equal(a[:, 0], b[:, 0])


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_free_slots_hold_anything_finite(representation: Representation) -> None:
    """And never more bytes than are allocated; nothing held takes nothing."""
    d = filled(representation)

    assert all(bool(torch.isfinite(x).all()) for x in d.read())
    assert sum(d.held_bytes()) <= d.store.allocated_bytes()
    assert d.store.held_bytes(torch.zeros_like(d.counts)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "representation", [KVTuner(pairs=((4, 2),), group=8, residual=8), Subspace(6), Kivi(value_bits=4)], ids=str
)
def test_bytes_can_be_told_beforehand(representation: Representation) -> None:
    """On no device and without calibration, for budgets in bytes."""
    geometry = geometry_of(dim=32)
    empty = representation.allocate(StoreSpec(geometry, 1, 30, torch.float16, torch.device("meta"), {}))
    real = representation.allocate(StoreSpec(geometry, 1, 30, torch.float16, torch.device("cpu"), artefacts(geometry)))
    counts = torch.arange(31)[None, :, None].expand(2, -1, 2)

    assert empty.held_bytes(counts).tolist() == real.held_bytes(counts).tolist()


def requests() -> list[Request]:
    """Prompts of mixed length."""
    made = []
    for i, n in enumerate(LENGTHS):
        ids = (torch.randperm(60, generator=torch.Generator().manual_seed(100 + i))[:n] + 2).tolist()
        made.append(Request(f"p{i}", tuple(ids), stream_key(7, f"p{i}", 0)))
    return made


def generate(
    loaded: LoadedModel, representation: Representation, todo: list[Request], *, cut: bool, ragged: bool = False
) -> dict[str, Generation]:
    """Run and index by problem; events every 4 steps at a mean of 12 tokens, or none."""
    scoring = (H2O(recent=3) if ragged else StreamingLLM(sinks=1)) if cut else Full()
    mechanism = Mechanism(
        "test", scoring, AdaKV() if ragged else Uniform(), EveryK(k=4) if cut else Never(), representation,
        Sampling(temperature=1.0) if cut else Greedy(),
    )  # fmt: skip
    engine = Engine(
        loaded, mechanism, Budget(12), rows=3, max_new_tokens=N_NEW, max_prompt_tokens=max(LENGTHS),
        artefacts=artefacts(loaded.geometry),
    )  # fmt: skip
    return {g.problem_id: g for g in engine.generate(todo)}


def row(g: Generation) -> tuple[object, ...]:
    """Everything but the time."""
    return (g.token_ids, g.cache_tokens_per_step, g.n_events, g.mean_cache_bytes, g.peak_cache_bytes, g.mean_aux_bytes)


@pytest.mark.parametrize("cut", [False, True], ids=["never", "every-k"])
@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=str)
def test_in_the_engine(toy_llama: LoadedModel, representation: Representation, cut: bool) -> None:
    """Rows do not depend on the batch or on who had them before; bytes lie below those of full precision."""
    todo = requests()
    straight = generate(toy_llama, representation, todo, cut=cut)
    mixed = generate(toy_llama, representation, [todo[i] for i in (5, 2, 4, 1)], cut=cut)
    full = generate(toy_llama, FullPrecision(), todo, cut=cut)

    assert {k: row(straight[k]) for k in mixed} == {k: row(g) for k, g in mixed.items()}
    for name, g in straight.items():
        assert (g.n_events > 0) == cut
        assert g.cache_tokens_per_step == full[name].cache_tokens_per_step
        assert 0 < g.mean_cache_bytes < full[name].mean_cache_bytes


@pytest.mark.parametrize("representation", [r for r in REPRESENTATIONS if r.kind != "mini-cache"], ids=str)
def test_in_the_engine_with_heads_that_hold_different_tokens(
    toy_llama: LoadedModel, representation: Representation
) -> None:
    """Ragged heads, cut prompts included; the same promise."""
    todo = requests()
    straight = generate(toy_llama, representation, todo, cut=True, ragged=True)
    mixed = generate(toy_llama, representation, [todo[i] for i in (5, 2, 4)], cut=True, ragged=True)

    assert {k: row(straight[k]) for k in mixed} == {k: row(g) for k, g in mixed.items()}
    assert all(g.n_events > 0 for g in straight.values())


@pytest.mark.parametrize("cut", [False, True], ids=["never", "every-k"])
def test_a_subspace_of_everything_changes_no_token(toy_llama: LoadedModel, cut: bool) -> None:
    """Rank D gives the text of full precision."""
    ours, full = (generate(toy_llama, r, requests(), cut=cut) for r in (Subspace(rank=16), FullPrecision()))

    assert {k: g.token_ids for k, g in ours.items()} == {k: g.token_ids for k, g in full.items()}


def test_coarse_codes_do_change_tokens(toy_llama: LoadedModel) -> None:
    """So the representation is really read from."""
    full = generate(toy_llama, FullPrecision(), requests(), cut=True)
    for representation in (
        KVQuant(bits=2, exact=0),
        QAQ(min_bits=1, max_bits=1),
        Subspace(rank=1),
        MiniCache(start=0, threshold=1.0),
    ):
        ours = generate(toy_llama, representation, requests(), cut=True)
        assert any(ours[name].token_ids != g.token_ids for name, g in full.items()), representation
