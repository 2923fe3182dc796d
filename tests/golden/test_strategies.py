"""Scores, shares, selections and codes against outputs of reference implementations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, SlotState, StoreSpec, View
from designspace.axes.artefact import Q_STATISTICS
from designspace.axes.ranking import rank_descending
from designspace.axes.shares import largest_remainder
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import pyramid_shares
from families.representation.kivi import Kivi, KiviStore
from families.representation.quantiser import dequantise, quantise
from families.scoring.expected_attention import ExpectedAttention, average_rotation
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.lag_kv import LagKV
from families.scoring.lazy_eviction import LazyEviction
from families.scoring.r_kv import RKV
from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.dpp import LogDeterminant
from families.scoring.selectors.facility_location import Coverage
from families.scoring.selectors.greedy_loop import Objective, pick
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV, window_attention
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.triattention import TriAttention, z_normalise
from tests.conftest import statistics_artefact
from tests.golden.cases import golden_files, kept_slots, read


def causal_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Full causal attention of post-RoPE queries [1,H_q,N,D] and keys [1,H_kv,N,D], [1,H_q,N,N]."""
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    logits = queries @ keys.mT / queries.shape[-1] ** 0.5
    length = logits.shape[-1]
    return logits.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf).softmax(dim=-1)


def group_sum(weights: Tensor, n_kv_heads: int) -> Tensor:
    """Column sums of attention, mean over the group, [1,1,H_kv,N]: what the observer accumulates."""
    return weights.sum(dim=2).unflatten(1, (n_kv_heads, -1)).mean(dim=2)[None]


def select(view: View, scores: Tensor, budget: int) -> Tensor:
    """Kept slots of a top-k with `budget` tokens per head, [1,H_kv,b]."""
    shares = torch.full(view.counts.shape, budget)
    return kept_slots(TopK().select(view, scores, shares))[0]


def check_kept_n(tensors: dict[str, Tensor], view: View, scores: Tensor) -> None:
    """Compare with every stored `kept_<budget>`."""
    for name, expected in tensors.items():
        if name.startswith("kept_") and name[5:].isdigit():
            assert torch.equal(select(view, scores, int(name[5:])), expected)


@pytest.mark.parametrize("file", golden_files("knorm"))
def test_knorm(file: Path) -> None:
    """Scores and kept sets equal kvpress."""
    tensors, meta = read(file)
    view = view_of(tensors["keys"][None])
    scores = KNorm(recent=0).score(view)

    assert torch.allclose(scores[0], tensors["scores"], atol=meta["tolerance"]["scores_abs"], rtol=0)
    check_kept_n(tensors, view, scores)


@pytest.mark.parametrize("file", golden_files("keydiff"))
def test_keydiff(file: Path) -> None:
    """Scores and kept sets equal kvpress."""
    tensors, meta = read(file)
    view = view_of(tensors["keys"][None])
    scores = KeyDiff(recent=0).score(view)

    assert torch.allclose(scores[0], tensors["scores"], atol=meta["tolerance"]["scores_abs"], rtol=0)
    check_kept_n(tensors, view, scores)


@pytest.mark.parametrize("file", golden_files("lagkv"))
def test_lag_kv(file: Path) -> None:
    """Ranks within each block; sinks, the last full block and the remainder hold 1."""
    tensors, meta = read(file)
    p = meta["parameters"]
    scoring = LagKV(lag=p["lag"], sinks=p["sinks"])
    view = view_of(tensors["keys"][None], tensors["values"][None], sinks=p["sinks"])
    n_blocks = (p["n"] - p["sinks"]) // p["lag"]
    cross = (scoring.block_spread(view.keys, n_blocks) + scoring.block_spread(view.values, n_blocks)) / 2

    compared = slice(p["sinks"], p["sinks"] + (n_blocks - 1) * p["lag"])
    assert torch.allclose(cross.flatten(-2)[0], tensors["scores_cross"][..., compared], atol=1e-6, rtol=0)
    assert torch.allclose(scoring.score(view)[0], tensors["scores"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("file", golden_files("expected_attention"))
def test_expected_attention(file: Path) -> None:
    """Rotated statistics and scores equal kvpress; sinks take no part."""
    tensors, meta = read(file)
    p = meta["parameters"]
    view = view_of(
        tensors["keys"][None],
        tensors["values"][None] if "values" in tensors else None,
        next_position=p["first_future_position"],
        n_query_heads=p["query_heads"],
        inv_freq=tensors["inv_freq"],
        sinks=p["sinks"],
    )
    scoring = ExpectedAttention(
        n_future=p["n_future"],
        covariance=p["use_covariance"],
        value_norm=p["use_vnorm"],
        epsilon=p["epsilon"],
        sinks=p["sinks"],
    )
    queries = tensors["queries_prerope"][None, ..., p["sinks"] :, :]
    mean = queries.mean(dim=-2)
    centred = queries - mean[..., None, :]
    scores = scoring.from_statistics(view, mean, centred.mT @ centred / queries.shape[-2])

    rotation = average_rotation(view.next_position, p["n_future"], view.geometry)
    assert torch.allclose((rotation @ mean[0, ..., None])[..., 0], tensors["mu_rotated"], atol=1e-5, rtol=0)
    assert torch.allclose(scores[0, ..., p["sinks"] :], tensors["scores_nonsink"], atol=1e-6, rtol=1e-4)
    check_kept_n(tensors, view, scores)


@pytest.mark.parametrize("file", golden_files("streaming_llm"))
def test_streaming_llm(file: Path) -> None:
    """Sinks and the most recent tokens."""
    tensors, meta = read(file)
    parameters = meta["parameters"]
    scoring = StreamingLLM(sinks=parameters["sinks"])
    view = view_of(torch.randn(1, 1, parameters["kv_heads"], parameters["n"], 16), sinks=scoring.sinks)

    for budget in parameters["budgets"]:
        expected = tensors[f"kept_{budget}"].expand(1, parameters["kv_heads"], -1)
        assert torch.equal(select(view, scoring.score(view), budget), expected)


@pytest.mark.parametrize("file", golden_files("h2o"))
def test_h2o(file: Path) -> None:
    """Accumulated attention and the heavy hitters it keeps."""
    tensors, meta = read(file)
    parameters = meta["parameters"]
    accumulated = group_sum(causal_attention(tensors["queries"], tensors["keys"]), parameters["kv_heads"])
    view = view_of(tensors["keys"][None], accumulated=accumulated, recent=parameters["protected_recent"])
    scores = H2O(recent=parameters["protected_recent"]).score(view)

    assert torch.allclose(scores[0], tensors["accumulated_sum"], atol=1e-4, rtol=0)
    assert torch.equal(select(view, scores, parameters["budget"]), tensors["kept"])


@pytest.mark.parametrize("file", golden_files("observed_attention"))
def test_h2o_mean_is_observed_attention(file: Path) -> None:
    """Normalised by the number of queries that could see the key."""
    tensors, meta = read(file)
    accumulated = group_sum(causal_attention(tensors["queries"], tensors["keys"]), meta["parameters"]["kv_heads"])
    view = view_of(tensors["keys"][None], accumulated=accumulated)
    scores = H2O(normalise="mean", recent=0).score(view)

    assert torch.allclose(scores[0], tensors["scores"], atol=2e-6, rtol=0)
    assert torch.allclose(accumulated[0], tensors["accumulated_sum"], atol=1e-4, rtol=0)
    check_kept_n(tensors, view, scores)


@pytest.mark.parametrize("file", golden_files("tova"))
def test_tova(file: Path) -> None:
    """The newest query's attention, averaged over all query heads."""
    tensors, _ = read(file)
    last = tensors["attention_last"] if "attention_last" in tensors else _last_row(tensors)
    view = view_of(tensors["keys"][None], last=last[None], recent=1)
    scores = TOVA().score(view)

    past = tensors["scores"].shape[-1] - 1  # the reference puts max + 1 on the protected newest token
    assert torch.allclose(scores[0, ..., :past], tensors["scores"][..., :past], atol=2e-6, rtol=0)
    check_kept_n(tensors, view, scores)


def _last_row(tensors: dict[str, Tensor]) -> Tensor:
    query = next(tensors[name] for name in ("query_last", "queries_last", "queries", "query") if name in tensors)
    keys = tensors["keys"].repeat_interleave(query.shape[1] // tensors["keys"].shape[1], dim=1)
    return ((query[:, :, -1:] @ keys.mT) / query.shape[-1] ** 0.5).softmax(dim=-1)[:, :, 0]


@pytest.mark.parametrize("file", golden_files("snapkv"))
def test_snapkv(file: Path) -> None:
    """Window attention, pooled, for kvpress and KVCache-Factory conventions (equal where both average the group)."""
    tensors, meta = read(file)
    parameters = meta["parameters"]
    window, n = parameters["window"], parameters["n"]
    pool = "max" if parameters["pool"].startswith("max") else "avg"
    view = view_of(tensors["keys"][None], queries=tensors["queries_window"][None], recent=window)
    scores = SnapKV(kernel=parameters["kernel"], pool=pool, recent=window).score(view)

    expected = tensors.get("scores_past_mean", tensors.get("scores_past"))
    assert torch.allclose(scores[0, ..., : n - window], expected, atol=meta["tolerance"]["scores_abs"], rtol=0)
    check_kept_n(tensors, view, scores)
    if "kept_spec_ties" in tensors:
        assert torch.equal(select(view, scores, parameters["budget"]), tensors["kept_spec_ties"])


@pytest.mark.parametrize("file", golden_files("snapkv", "kvf_*max*.safetensors"))
def test_snapkv_takes_the_largest_of_a_group(file: Path) -> None:
    """From the scores of single query heads: the largest of a group and of neighbours may be taken in either order."""
    tensors, meta = read(file)
    p = meta["parameters"]
    view = view_of(tensors["keys"][None], queries=tensors["queries_window"][None], recent=p["window"])
    scores = SnapKV(kernel=p["kernel"], pool="max", group="max", recent=p["window"]).score(view)
    by_head = tensors["scores_past_sum_query_heads"][0].unflatten(0, (p["kv_heads"], -1)) / p["window"]

    expected = by_head.amax(dim=1)
    assert torch.allclose(scores[0, 0, :, : -p["window"]], expected, atol=meta["tolerance"]["scores_abs"], rtol=0)
    assert not torch.allclose(by_head.mean(dim=1), expected, atol=1e-3)


@pytest.mark.parametrize("file", golden_files("rkv"))
def test_r_kv(file: Path) -> None:
    """Importance, redundancy, their mix and the kept set; the documented rule where the reference has a known defect."""
    tensors, meta = read(file)
    parameters = meta["parameters"]
    window, n = parameters["window"], parameters["n_cached"]
    scoring = RKV(
        lam=parameters["lambda"], threshold=parameters["threshold"], kernel=parameters["kernel"], recent=window
    )
    view = view_of(tensors["keys"][None], queries=tensors["queries"][None], recent=window)
    past = view.positions < n - window

    assert torch.allclose(
        scoring.importance(view, past)[0, ..., : n - window], tensors["importance"], atol=1e-6, rtol=0
    )
    redundancy = tensors.get("redundancy_spec", tensors["redundancy"])
    assert torch.allclose(scoring.redundancy(view)[0], redundancy, atol=1e-6, rtol=0)
    scores = scoring.score(view)
    assert torch.allclose(
        scores[0, ..., : n - window], tensors.get("combined_spec", tensors["combined"]), atol=1e-6, rtol=0
    )
    assert torch.equal(select(view, scores, parameters["budget"]), tensors.get("kept_spec", tensors["kept"]))


@pytest.mark.parametrize("file", golden_files("lazy_eviction"))
def test_lazy_eviction(file: Path) -> None:
    """Times and pauses after every row of attention, and the scores and kept sets of every event."""
    tensors, meta = read(file)
    p = meta["parameters"]
    n_heads, width, last_prompt = p["heads"], tensors["attention"].shape[-1], p["prompt"] - 1
    scoring = LazyEviction(threshold=p["alpha"], recent=p["W"])
    schedule = EveryK(k=p["W"], prefill=False).schedule(Budget(p["capacity"], "nominal"))
    (tracker,) = scoring.needs().trackers
    position = torch.arange(width).expand(1, n_heads, width)
    state = torch.zeros(1, n_heads, width, 2, dtype=torch.int32)
    for now in range(p["prompt"]):
        before = torch.where(position <= now, position, -1)
        row = torch.rand(1, n_heads, width, generator=torch.Generator().manual_seed(now))
        state = tracker.observe_prompt(state, row, before, torch.tensor([now])).masked_fill(before[..., None] < 0, 0)
    resident, events = position[0] <= last_prompt, []
    for step in range(1, p["steps"] + 1):
        now = last_prompt + step
        resident = resident | (position[0] == now)
        held = torch.where(resident, position[0], -1)[None]
        assert torch.equal(resident, tensors["resident"][step - 1])
        state = tracker.observe(state, tensors["attention"][step - 1][None], held, torch.tensor([now]))
        state = state.masked_fill(held[..., None] < 0, 0)
        last, pause = state[0].unbind(dim=-1)
        assert torch.equal(last[resident] - last_prompt, tensors["last"][step - 1][resident].int())
        assert torch.equal(pause[resident], tensors["mri"][step - 1][resident].int())
        if not schedule.due(step, int(resident[0].sum()), len(events)):
            continue
        view = view_of(
            torch.zeros(1, 1, n_heads, width, 2), positions=held[None], tracked={tracker: state[None]}, recent=p["W"],
            next_position=now + 1,
        )  # fmt: skip
        scores, theirs = scoring.score(view)[0, 0], tensors["score"][len(events)]
        ranked = theirs >= 0
        assert torch.equal(ranked, view.candidates[0, 0])
        assert torch.allclose(scores[ranked], theirs[ranked], atol=meta["tolerance"]["scores_abs"], rtol=0)
        kept = select(view, scoring.score(view), p["capacity"])[0]
        assert torch.equal(kept, tensors["kept"][len(events)].int())
        resident = torch.zeros_like(resident).scatter_(-1, kept.long(), True)
        events.append(step)
    assert events == tensors["event_steps"].tolist()


@pytest.mark.parametrize("file", golden_files("triattention"))
def test_triattention(file: Path) -> None:
    """Head scores, their reductions and the kept lists in all three scopes."""
    tensors, meta = read(file)
    p = meta["parameters"]
    start, t = p["candidate_start"], p["absolute_counter_t"]
    mean = torch.complex(tensors["q_mean_real"], tensors["q_mean_imag"])
    positions = tensors["positions"][:, None]
    view = view_of(
        tensors["keys_rotated"][:, None],
        positions=positions,
        next_position=t,
        n_query_heads=p["query_heads"],
        artefacts={Q_STATISTICS: statistics_artefact(mean, tensors["q_abs_mean"])},
        inv_freq=tensors["inv_freq"],
        attention_scaling=p["attention_scaling"],
        sinks=int(positions[..., start - 1].max()) + 1 if start else 0,
    )
    assert bool(view.candidates[..., start:].all()) and not bool(view.candidates[..., :start].any())

    def scoring(scope: str) -> TriAttention:
        return TriAttention(
            scope=scope, offset_max=p["offset_max"], aggregate=p["aggregation_over_offsets"], normalise=p["normalize_scores"],
            trig=not p["disable_trig"], concentration=not p["disable_mlr"], group=p["per_layer_head_aggregation"], noise=0.0,
        )  # type: ignore[arg-type]  # fmt: skip

    heads = scoring("global").head_scores(view)[:, 0].flatten(1, 2)[..., start:]
    tolerance = meta["tolerance"]
    assert torch.allclose(
        heads.double(), tensors["raw_scores_f64"], atol=max(tolerance["raw_scores_f64_abs"], 1e-4), rtol=0
    )
    if p["normalize_scores"]:
        z = z_normalise(heads, torch.ones_like(heads, dtype=torch.bool))
        assert torch.allclose(z, tensors["norm_scores"], atol=max(tolerance["norm_scores_abs"], 1e-4), rtol=0)
    shares = torch.full(view.counts.shape, p["budget"])
    for scope, name in (("global", "keep_global"), ("kv-head", "keep_per_head"), ("layer-head", "keep_per_layer_head")):
        if name in tensors:
            kept = kept_slots(TopK().select(view, scoring(scope).score(view), shares))[:, 0]
            assert torch.equal(kept, tensors[name].expand_as(kept))


@pytest.mark.parametrize("file", golden_files("adakv", "floor_*.safetensors"))
def test_ada_kv_floor(file: Path) -> None:
    """The floor safeguard: own best tokens, then a global top-k."""
    tensors, meta = read(file)
    p = meta["parameters"]
    view = view_of(torch.randn(1, 1, p["kv_heads"], p["n"], 4), comparable_scores=True)
    scores = tensors["scores"][None]
    routing = AdaKV(floor=p["alpha"])
    shares = routing.allocate(view, scores, torch.tensor([p["budget_per_head"]]))

    assert torch.equal(shares[0, 0].int(), tensors["counts"])
    assert torch.equal(TopK().select(view, scores, shares)[0, 0], tensors["keep_mask"])


@pytest.mark.parametrize("file", golden_files("adakv", "blend_*.safetensors"))
def test_ada_kv_blend(file: Path) -> None:
    """The blend safeguard with conserving rounding, and the window on top."""
    tensors, meta = read(file)
    p = meta["parameters"]
    pool = "max" if p["pool"].startswith("max") else "avg"
    view = view_of(
        tensors["keys"][None], queries=tensors["queries_window"][None], recent=p["window"], comparable_scores=True
    )
    scores = SnapKV(kernel=p["kernel"], pool=pool, recent=p["window"]).score(view)
    shares = AdaKV(floor=p["alpha"], safeguard="blend", normalise="mass" if p["normalize"] else "none").allocate(
        view, scores, torch.tensor([p["budget"]])
    )

    assert torch.equal(shares[0, 0].int(), tensors["counts_largest_remainder"])


def picks(objective: Objective, n: int, k: int) -> list[int]:
    """Picks of one head in order."""
    return pick(objective, torch.ones(n, dtype=torch.bool), torch.tensor(k)).tolist()


@pytest.mark.parametrize("file", golden_files("mmr"))
def test_mmr(file: Path) -> None:
    """The order of picks on raw cosines."""
    tensors, meta = read(file)
    n, k, lam = (meta["parameters"][name] for name in ("n", "k", "lambda"))
    values, vectors = torch.linalg.eigh(tensors["similarity"].double())
    features = vectors * values.clamp(min=0).sqrt()  # whose dot products are the similarities
    none = torch.zeros(n, dtype=torch.bool)

    assert (
        picks(Penalised(features, lam * tensors["relevance"], none, 1 - lam, floor=False), n, k)
        == tensors["order"].tolist()
    )


@pytest.mark.parametrize("file", golden_files("facility_location"))
def test_facility_location(file: Path) -> None:
    """The order of greedy picks from the empty set."""
    tensors, meta = read(file)
    n, k = meta["parameters"]["n"], meta["parameters"]["k"]
    similarity, none = tensors["similarity"].double(), torch.zeros(n, dtype=torch.bool)

    assert picks(Coverage(similarity, torch.zeros(n), torch.ones(n), none, 0.0), n, k) == tensors["order"].tolist()


@pytest.mark.parametrize("file", golden_files("dpp"))
def test_dpp(file: Path) -> None:
    """The order of greedy MAP picks."""
    tensors, meta = read(file)
    n, k = meta["parameters"]["n"], meta["parameters"]["k"]

    assert picks(LogDeterminant(tensors["kernel"], tensors["relevance"]), n, k) == tensors["order"].tolist()


@pytest.mark.parametrize("file", golden_files("pyramidkv", "kvf_*.safetensors"))
def test_pyramid(file: Path) -> None:
    """The exact real schedule and its largest-remainder rounding."""
    tensors, _ = read(file)
    for row, parameters in enumerate(tensors["params"].tolist()):
        n_layers, n, budget, window, beta = parameters
        expected = tensors["budgets_largest_remainder"][row, :n_layers].long()
        if n < budget or n < 2 * (budget - window):  # the reference is uniform for short inputs, ours always a pyramid
            continue
        real = pyramid_shares(budget - window, n_layers, beta, n - window) + window
        assert torch.allclose(real, tensors["budgets_real"][row, :n_layers], atol=1e-9, rtol=0)
        assert torch.equal(largest_remainder(real[None], torch.tensor([budget * n_layers]))[0], expected)


@pytest.mark.parametrize("file", golden_files("kivi", "b*.safetensors"))
def test_kivi_quantiser(file: Path) -> None:
    """Codes, scales and dequantised values per channel (keys) and per token (values)."""
    tensors, meta = read(file)
    p = meta["parameters"]
    keys = quantise(tensors["keys"].unflatten(2, (-1, p["group"])).transpose(-1, -2), p["bits"])
    values = quantise(tensors["values"].unflatten(-1, (-1, p["group"])), p["bits"])
    restored = {
        "keys_dequant": dequantise(*keys).transpose(-1, -2).flatten(2, 3),
        "values_dequant": dequantise(*values).flatten(-2),
    }
    steps = {"keys_dequant": keys.scale.amax(), "values_dequant": values.scale.amax()}

    assert torch.allclose(keys.scale[..., 0], tensors["key_scale"], rtol=meta["tolerance"]["scale_rel"], atol=0)
    for name, ours in restored.items():
        off = (ours.float() - tensors[name].float()).abs()
        near_half = off > meta["tolerance"]["dequant_abs"]
        assert near_half.float().mean() < 1e-3  # a code may differ by one step where it is a tie within rounding
        assert off.amax() <= steps[name] * 1.01 + meta["tolerance"]["dequant_abs"]


@pytest.mark.parametrize("file", golden_files("kivi", "layout_*.safetensors"))
def test_kivi_layout(file: Path) -> None:
    """The whole cache after prefill: which tokens are in codes and which are exact."""
    tensors, meta = read(file)
    p = meta["parameters"]
    view = view_of(tensors["keys"][None])
    config = Kivi(bits=p["bits"], group=p["group"], residual=p["residual"])
    store = config.allocate(StoreSpec(view.geometry, 1, p["n"], torch.float32, torch.device("cpu"), {}))
    assert isinstance(store, KiviStore)
    store.load(
        torch.tensor([0]),
        tensors["keys"][None],
        tensors["values"][None],
        SlotState(view.counts, view.positions, view.observed),
    )
    keys, values = store.read(0, SlotState(view.counts[0], view.positions[0], view.observed))

    assert torch.allclose(keys, tensors["keys_dequant"], atol=2e-5, rtol=0)
    assert torch.allclose(values, tensors["values_dequant"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("file", golden_files("kivi", "layout_*.safetensors"))
def test_kivi_written_token_by_token_equals_loaded(file: Path) -> None:
    """Decoding reaches the same cache as a prompt of the same tokens."""
    tensors, meta = read(file)
    p = meta["parameters"]
    view = view_of(tensors["keys"][None])
    config = Kivi(bits=p["bits"], group=p["group"], residual=p["residual"])
    store = config.allocate(StoreSpec(view.geometry, 1, p["n"], torch.float32, torch.device("cpu"), {}))
    for slot in range(p["n"]):
        held = SlotState(torch.full((1, p["kv_heads"]), slot), view.positions[0], view.observed)
        store.write(
            0, torch.full((1, p["kv_heads"]), slot), tensors["keys"][:, :, slot], tensors["values"][:, :, slot], held
        )
    keys, values = store.read(0, SlotState(view.counts[0], view.positions[0], view.observed))

    assert torch.allclose(keys, tensors["keys_dequant"], atol=2e-5, rtol=0)
    assert torch.allclose(values, tensors["values_dequant"], atol=2e-5, rtol=0)


def test_window_attention_rows_sum_to_one() -> None:
    """With the whole context held, each window query's weights sum to one, so their mean does."""
    view = view_of(torch.randn(2, 3, 2, 20, 8), queries=torch.randn(2, 3, 4, 5, 8), recent=5)

    assert torch.allclose(window_attention(view).sum(dim=-1), torch.ones(2, 3, 2), atol=1e-5)


def test_ranks_break_ties_towards_the_newer_slot() -> None:
    """Equal scores: the later slot ranks first."""
    scores = torch.tensor([1.0, 2.0, 2.0, 0.0])

    assert rank_descending(scores, torch.ones(4, dtype=torch.bool)).tolist() == [2, 1, 0, 3]
