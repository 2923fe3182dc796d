"""The threshold: kept sets token by token, a running engine against sets in loops, and what it is refused with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
import torch

from designspace.axes import Budget, Cadence, Mechanism, Request, View, WindowShare
from designspace.axes.least_score import reaching
from designspace.cache.packing import CompressionResult
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.compress import compress
from designspace.engine.exact_set import check_exact_set
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import check_mechanism
from designspace.testing.conformance.cases import Case, cases
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.cadence.threshold import Threshold
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.d2o import D2O
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.representation.nearest_merge import NearestMerge
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.top_k import TopK
from families.scoring.vase import Vase
from tests.conftest import toy_model


def arm(cadence: Cadence = Threshold(tau=-3.0), **axes: Any) -> Mechanism:  # noqa: B008 - frozen
    """Return a mechanism that keeps keys of a norm up to 3."""
    whole = {
        "scoring": KNorm(recent=4, sinks=1),
        "head_routing": Uniform(),
        "representation": FullPrecision(),
        "decoding": Greedy(),
        **axes,
    }
    return Mechanism("arm", cadence=cadence, **whole)


def slow(case: Case, tau: float, *, protect: bool) -> list[list[int]]:
    """Return the kept positions of each layer, row and head, one slot after the other."""
    view, found = case.view, []
    for layer in range(view.positions.shape[0]):
        for row in range(view.positions.shape[1]):
            for head in range(view.positions.shape[2]):
                kept = []
                for slot, position in enumerate(view.positions[layer, row, head].tolist()):
                    if position < 0:
                        continue
                    sink = position < view.sinks
                    in_window = int(view.next_position[row]) - position <= view.recent
                    of_prompt = protect and position < int(view.n_prompt_tokens[row])
                    pinned = view.pinned is not None and bool(view.pinned[row, position])
                    norm = sum(x * x for x in view.keys[layer, row, head, slot].tolist()) ** 0.5
                    if sink or in_window or of_prompt or pinned or -norm >= tau:
                        kept.append(position)
                found.append(kept)
    return found


def positions_of(view: View, kept: CompressionResult) -> list[list[int]]:
    """Return the kept positions of each layer, row and head."""
    positions = view.positions.gather(-1, kept.order).flatten(0, 2)
    return [row[:n].tolist() for row, n in zip(positions, kept.counts.flatten().tolist(), strict=True)]


@pytest.mark.parametrize("protect", ["none", "prompt"])
@pytest.mark.parametrize("tau", [-1.0, -2.0, -2.6, -3.5, -100.0, 5.0])
def test_kept_sets(tau: float, protect: Any) -> None:
    """On ragged heads, pinned spans, prompts shorter than the window and slots that stand for several tokens."""
    mechanism = arm(Threshold(tau=tau), scoring=KNorm(recent=4, sinks=1, protect=protect))
    sizes = set()
    for case in cases(sinks=1, recent=4):
        protects = protect == "prompt"
        view = replace(case.view, context=replace(case.view.context, protects_prompt=protects))
        found = positions_of(view, compress(mechanism, view))
        assert found == slow(case, tau, protect=protects)
        sizes |= {len(kept) for kept in found}
    assert len(sizes) > 2  # heads hold unlike numbers


def released(scores: list[float], n_prompt: int, window: int, tau: float) -> list[set[int]]:
    """Return what kvpress' DMSPress leaves unmasked of one head after the prompt and after each further token.

    Scores wait in a buffer; whatever is in it beyond the window is judged once, and leaves it.
    """
    buffer: list[float] = []
    masked: set[int] = set()
    left = []
    for length in range(n_prompt, len(scores) + 1):
        buffer += scores[:n_prompt] if length == n_prompt else [scores[length - 1]]
        surplus = max(len(buffer) - window, 0)
        first = length - len(buffer)
        masked |= {first + i for i in range(surplus) if buffer[i] < tau}
        buffer = buffer[surplus:]
        left.append(set(range(length)) - masked)
    return left


@pytest.mark.parametrize(("n_prompt", "window"), [(3, 5), (12, 5), (9, 1), (1, 8), (5, 0)])
def test_the_released_rule(n_prompt: int, window: int) -> None:
    """Scores that are given once: events at every step keep what DMSPress leaves, after the prompt and each token."""
    scores = torch.randn(3, 30, generator=torch.Generator().manual_seed(n_prompt))
    held = [set(range(n_prompt)) for _ in range(3)]
    for length in range(n_prompt, 31):
        held = [one | {length - 1} for one in held]
        for head in range(3):
            positions = torch.tensor(sorted(held[head])).view(1, 1, 1, -1)
            keys = torch.zeros(*positions.shape, 2)
            view = view_of(keys, positions=positions, next_position=length, recent=window)
            kept = reaching(view, scores[head][positions], 0.2)
            held[head] = set(positions[kept].tolist())
            assert held[head] == released(scores[head].tolist(), n_prompt, window, 0.2)[length - n_prompt]


def test_the_engine_checks_the_exact_set() -> None:
    """One slot too few or too many is a broken invariant."""
    (case,) = list(cases(sinks=1, recent=4))[1:2]
    view, kept = case.view, compress(arm(), case.view)
    scores = KNorm().score(view)
    check_exact_set(view, scores, -3.0, kept)
    for counts in (kept.counts - 1, kept.counts + 1):
        with pytest.raises(
            InvariantViolation, match="what is protected or has a score of at least -3, and nothing else"
        ):
            check_exact_set(view, scores, -3.0, kept._replace(counts=counts))
    equal = scores.masked_fill(view.valid, -2.0)
    assert torch.equal(reaching(view, equal, -2.0), view.valid)


class InLoops(EngineHook):
    """Follows the positions of every head in plain sets, and compares them with the cache after every step."""

    def __init__(self, engine: Engine, *, tau: float, k: int, sinks: int, recent: int) -> None:
        self.engine, self.tau, self.k, self.sinks, self.recent = engine, tau, k, sinks, recent
        self.held: dict[tuple[int, int, int], dict[int, float]] = {}
        self.sizes: dict[str, list[float]] = {}
        self.n_ragged = 0

    def on_start(self, state: RowState) -> None:
        """Judge the tokens of a prompt that was encoded apart."""
        text, _ = self.engine.prefill.encode(state.request.prompt_ids)
        scores = -text.keys[:, 0].float().norm(dim=-1)
        for layer in range(scores.shape[0]):
            for head in range(scores.shape[1]):
                held = dict(enumerate(scores[layer, head, : text.n_tokens].tolist()))
                self.held[layer, state.index, head] = self._judged(held, text.n_tokens)
        self.sizes[state.request.problem_id] = []
        self._compare(state)

    def on_step(self, states: Collection[RowState]) -> None:
        """Take up the new token of each head, and note the attended size."""
        for state in states:
            total = 0
            for (layer, row, head), held in self.held.items():
                if row == state.index:
                    keys, _, positions = (x[row, head] for x in self.engine.cache.read(layer))
                    newest = int(positions.argmax())
                    held[int(positions[newest])] = -float(keys[newest].norm())
                    total += len(held)
            self.sizes[state.request.problem_id].append(total / self.engine.cache.geometry.n_heads_total)

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Judge the tokens of the rows at whose step that is done, and compare."""
        for state in states:
            for (layer, row, head), held in self.held.items():
                if row == state.index and state.step % self.k == 0:
                    length = len(state.request.prompt_ids) + state.step
                    self.held[layer, row, head] = self._judged(held, length)
            self._compare(state)

    def _judged(self, held: dict[int, float], length: int) -> dict[int, float]:
        return {
            position: score
            for position, score in held.items()
            if position < self.sinks or position >= length - self.recent or score >= self.tau
        }

    def _compare(self, state: RowState) -> None:
        cache, sizes = self.engine.cache, set()
        for (layer, row, head), held in self.held.items():
            if row == state.index:
                positions = cache.positions[layer, row, head]
                assert positions[positions >= 0].tolist() == sorted(held)
                sizes.add(len(held))
        self.n_ragged += len(sizes) > 1


def requests(*lengths: int) -> list[Request]:
    """Return prompts of random tokens."""
    random = torch.Generator().manual_seed(5)
    return [Request(str(n), tuple(torch.randint(2, 97, (n,), generator=random).tolist()), b"k") for n in lengths]


@pytest.mark.parametrize("k", [1, 3])
def test_a_running_engine(toy_llama: LoadedModel, k: int) -> None:
    """More texts than rows: positions of every head at every step, and a ledger that says the same."""
    loaded = replace(toy_llama, eos_ids=frozenset())
    tau = -3.0
    engine = Engine(
        loaded, arm(Threshold(tau=tau, k=k)), None, rows=2, max_new_tokens=30, max_prompt_tokens=20, burst=1
    )
    engine.hook = loops = InLoops(engine, tau=tau, k=k, sinks=1, recent=4)
    done = list(engine.generate(requests(20, 3, 11, 17)))

    assert engine.capacity == 51
    assert loops.n_ragged > 50
    for generation in done:
        expected = loops.sizes[generation.problem_id]
        assert generation.cache_tokens_per_step == pytest.approx(expected)
        assert generation.mean_cache_tokens == pytest.approx(sum(expected) / len(expected))
        per_token = 2 * loaded.geometry.head_dim * 4 * loaded.geometry.n_heads_total
        assert generation.mean_cache_bytes == pytest.approx(per_token * generation.mean_cache_tokens)
        assert generation.n_events > 0
        assert min(expected[2:]) > 5 and max(expected) < generation.n_prompt_tokens + 29


def test_events_that_cut_nothing_are_none(toy_llama: LoadedModel) -> None:
    """A threshold that all tokens reach is the full cache, and no text is said to have been compressed."""
    loaded = replace(toy_llama, eos_ids=frozenset())
    sizes: dict[str, Any] = {"rows": 2, "max_new_tokens": 12, "max_prompt_tokens": 20}
    (generation,) = Engine(loaded, arm(Threshold(tau=-1e9)), None, **sizes).generate(requests(9))
    assert generation.n_events == generation.n_evicted == 0
    assert generation.steady_mean_cache_tokens is None
    assert generation.cache_tokens_per_step == tuple(range(10, 21))


def test_too_few_slots_stop_the_run(toy_llama: LoadedModel) -> None:
    """No token is evicted to make room."""
    engine = Engine(
        replace(toy_llama, eos_ids=frozenset()), arm(Threshold(tau=-1e9)), None,
        rows=1, max_new_tokens=12, max_prompt_tokens=9, capacity=15,
    )  # fmt: skip
    with pytest.raises(InvariantViolation, match="so 1 more do not fit into 15 slots"):
        list(engine.generate(requests(9)))


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"cadence": Threshold(tau=-3.0, k=4)},
        {"scoring": H2O(recent=4), "cadence": Threshold(tau=0.4)},
        {"scoring": KNorm(recent=0)},
        {"scoring": KNorm(recent=3, protect="prompt")},
        {"representation": Kivi(bits=2, group=8, residual=8)},
        {"representation": NearestMerge()},
        {"representation": D2O()},
        {"decoding": Refresh(every=6).with_default_chooser(Sampling())},
    ],
    ids=["norms", "every 4", "h2o", "no window", "prompt kept", "kivi", "merging", "d2o", "refresh"],
)
def test_compositions_run_as_they_should(toy_llama: LoadedModel, axes: dict[str, Any]) -> None:
    """Rows are bit-identical whatever their mates, and the ledger grows as it may."""
    check_mechanism(arm(**axes), toy_llama, None, n_new_tokens=24)


def test_rows_may_return(toy_llama: LoadedModel) -> None:
    """A rollback brings back what the threshold has evicted since."""
    from designspace.models.loading import load_model
    from designspace.models.model_spec import ModelSpec

    loaded = load_model(ModelSpec.bundled("pocket-llama"))
    decoding = Rollback(boundary="s", threshold=0.9).with_default_chooser(Sampling())
    check_mechanism(arm(Threshold(tau=-9.0), decoding=decoding), loaded, None, n_new_tokens=24)


def test_shared_layers_are_judged_once() -> None:
    """Where the second layer was trained to read the first one's cache."""
    loaded = toy_model("llama", kv_owners=[0, 0])
    check_mechanism(arm(), loaded, None, n_new_tokens=16)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"head_routing": AdaKV()}, "in each head, so head routing 'ada-kv' would have nothing to divide"),
        ({"scoring": KNorm(selector=Diversity())}, "so selector 'diversity' would have nothing to choose"),
        ({"scoring": Vase(selector=TopK())}, "cuts to no size, on which the scores of 'vase' depend"),
        (
            {"scoring": H2O(recent=WindowShare(0.5))},
            "cuts to no size, so recent must be a number of tokens, got {share: 0.5}",
        ),
    ],
)
def test_company_without_a_meaning_is_refused(axes: dict[str, Any], reason: str) -> None:
    """When the mechanism is declared, in one line."""
    with pytest.raises(DeclarationError, match=reason) as refused:
        arm(**axes)
    assert "\n" not in str(refused.value)


def test_no_budget_is_taken() -> None:
    """An arm that is handed one is refused, rather than labelled with it."""
    assert not arm().budget_applies
    assert arm(EveryK()).budget_applies
    with pytest.raises(DeclarationError, match="takes no budget, as the cache of cadence 'threshold' follows from the"):
        arm().bind(Budget(64))
    with pytest.raises(DeclarationError, match="tau must be a finite number, got tau=nan"):
        Threshold(tau=float("nan"))
