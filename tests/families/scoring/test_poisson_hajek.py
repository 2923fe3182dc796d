"""Draws with known probabilities: frequencies, exact sizes, unbiased sums, weights in attention, and the error to expect."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from designspace.axes import Budget, Mechanism, Request, View
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.compress import compress
from designspace.errors import DeclarationError
from designspace.registry import mechanism, strategy
from designspace.testing.conformance import check_mechanism
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.representation.d2o import D2O
from families.scoring.h2o import H2O
from families.scoring.selectors.poisson_hajek import PoissonHajek, inclusion
from tests.conftest import toy_model

WEIGHTS = (0.32, 0.05, 0.18, 0.01, 0.14, 0.3)
N_DRAWN, N_ROWS = 3, 20_000


def rows_of(n_rows: int, values: Tensor | None = None, last: Tensor | None = None) -> View:
    """An event of many rows that differ in their random streams alone."""
    n = len(WEIGHTS)
    values = torch.zeros(1, 1, 1, n, 2) if values is None else values
    view = view_of(
        torch.zeros(1, n_rows, 1, n, 2), values.expand(1, n_rows, 1, n, -1),
        last=None if last is None else last.expand(1, n_rows, 1, n),
    )  # fmt: skip
    return replace(view, streams=torch.randint(-(2**62), 2**62, (n_rows,), generator=torch.Generator().manual_seed(5)))


def drawn(selector: PoissonHajek, view: View, n: int = N_DRAWN) -> tuple[Tensor, Tensor]:
    """Return the kept masks [E,C] and the probabilities [C] by the module's weights."""
    n_rows = view.counts.shape[1]
    scores = torch.tensor(WEIGHTS).expand(1, n_rows, 1, -1)
    found = selector.draw(view, scores, torch.full((1, n_rows, 1), n))
    assert found.inclusion is not None
    return found.keep[0, :, 0], found.inclusion[0, 0, 0]


def slow_inclusion(weights: list[float], n: int, mix: float) -> list[float]:
    """The probabilities, one certain token after the other, from their definition."""
    total, size = sum(weights), len(weights)
    mixed = [(1 - mix) * w / total + mix / size for w in weights]
    certain: set[int] = set()
    while True:
        rest = [i for i in range(size) if i not in certain]
        share = sum(mixed[i] for i in rest)
        over = [i for i in rest if (n - len(certain)) * mixed[i] > share]
        if not over:
            return [1.0 if i in certain else (n - len(certain)) * mixed[i] / share for i in range(size)]
        certain.add(max(over, key=lambda i: mixed[i]))


def samples_of(pi: list[float]) -> dict[tuple[int, ...], float]:
    """The probability of every sample of a systematic draw in a random order: all orders, the start integrated exactly."""
    found: dict[tuple[int, ...], float] = {}
    orders = list(permutations(range(len(pi))))
    for order in orders:
        ends = [0.0]
        for i in order:
            ends.append(ends[-1] + pi[i])
        cuts = sorted({0.0, 1.0, *(1 - (end % 1) for end in ends if 1e-9 < end % 1 < 1 - 1e-9)})
        for low, high in pairwise(cuts):
            start = (low + high) / 2
            hit = [int(b + start) > int(a + start) for a, b in pairwise(ends)]
            sample = tuple(sorted(i for i, is_hit in zip(order, hit, strict=True) if is_hit))
            found[sample] = found.get(sample, 0.0) + (high - low) / len(orders)
    return found


@pytest.mark.parametrize("mix", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_the_probabilities_are_those_of_the_definition(mix: float, n: int) -> None:
    """In proportion to the weights, at most 1, with the sum of the draw; also where several are certain."""
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)[None]
    found = inclusion(weights, torch.ones(1, 6, dtype=torch.bool), torch.tensor([n]), mix)
    assert found[0].tolist() == pytest.approx(slow_inclusion(list(WEIGHTS), n, mix))
    assert float(found.sum()) == pytest.approx(n)


def test_tokens_are_kept_with_their_probabilities() -> None:
    """Chi-square of each token's frequency, with fixed random streams; the size is exact in every draw."""
    keep, pi = drawn(PoissonHajek(certain=0.0), rows_of(N_ROWS))
    assert bool((keep.sum(dim=-1) == N_DRAWN).all())
    for token in range(len(WEIGHTS)):
        p = float(pi[token])
        n_kept = int(keep[:, token].sum())
        if p == 1:
            assert n_kept == N_ROWS
        else:
            assert chisquare([n_kept, N_ROWS - n_kept], [N_ROWS * p, N_ROWS * (1 - p)]).pvalue > 0.001
    assert 0 < int((pi == 1).sum()) < 6 or float(pi.max()) < 1


def test_samples_are_those_of_a_systematic_draw_in_a_random_order() -> None:
    """Chi-square over all samples against their exact probabilities."""
    keep, pi = drawn(PoissonHajek(certain=0.0, mix=0.4), rows_of(N_ROWS))
    expected = {sample: p for sample, p in samples_of(pi.tolist()).items() if p > 1e-9}
    seen = dict.fromkeys(expected, 0)
    for row in keep.nonzero()[:, 1].view(N_ROWS, N_DRAWN).tolist():
        seen[tuple(row)] += 1
    total = sum(expected.values())
    assert total == pytest.approx(1)
    assert chisquare(list(seen.values()), [N_ROWS * p / total for p in expected.values()]).pvalue > 0.001


def test_the_best_are_certain_and_the_tail_is_drawn() -> None:
    """`certain` of the share by scores, probability 1; with all of it, top-k."""
    keep, pi = drawn(PoissonHajek(certain=0.7), rows_of(200))
    assert bool(keep[:, [0, 5]].all())
    assert pi[[0, 5]].tolist() == [1, 1]
    assert float(pi.sum()) == pytest.approx(3)
    whole, _ = drawn(PoissonHajek(certain=1.0), rows_of(50))
    assert bool((whole == torch.tensor([True, False, True, False, False, True])).all())


def attention_case() -> tuple[Tensor, Tensor]:
    """Logits [C] and values [C,D] of one query."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(6, generator=generator).double(), torch.randn(6, 4, generator=generator).double()


def weighed(logits: Tensor, values: Tensor, kept: Tensor, pi: Tensor) -> Tensor:
    """Attention over the kept slots with log 1/pi on their logits, [D]."""
    return torch.softmax((logits - pi.log()).masked_fill(~kept, -torch.inf), dim=-1) @ values


def test_the_estimate_is_the_expectation_over_all_samples() -> None:
    """Sums over tokens are unbiased exactly; Hajek's ratio has the brute-force mean, within four standard errors."""
    logits, values = attention_case()
    keep, pi = drawn(PoissonHajek(certain=0.0, mix=0.3), rows_of(N_ROWS))
    samples = samples_of(pi.tolist())
    mass = logits.exp()
    numerator = sum(p * sum(mass[i] * values[i] / pi[i] for i in sample) for sample, p in samples.items())
    denominator = sum(p * sum(mass[i] / pi[i] for i in sample) for sample, p in samples.items())
    assert torch.allclose(torch.as_tensor(numerator), mass @ values)
    assert float(denominator) == pytest.approx(float(mass.sum()))

    expected = torch.zeros(4, dtype=torch.float64)
    for sample, p in samples.items():
        kept = torch.zeros(6, dtype=torch.bool)
        kept[list(sample)] = True
        expected += p * weighed(logits, values, kept, pi)
    found = torch.stack([weighed(logits, values, row, pi) for row in keep[:4000]])
    error = found.std(dim=0) / 4000**0.5
    assert bool(((found.mean(dim=0) - expected).abs() < 4 * error).all())


def test_the_bias_of_the_ratio_falls_with_the_draw() -> None:
    """Over random cases the mean of the estimate is nearer the full attention than top-k's is, by far."""
    torch.manual_seed(0)
    n, n_rows = 64, 400
    logits, values = torch.randn(n).double(), torch.randn(n, 8).double()
    p = torch.softmax(logits, dim=-1)
    view = view_of(torch.zeros(1, n_rows, 1, n, 2))
    view = replace(view, streams=torch.arange(n_rows) * 7919)
    found = PoissonHajek(certain=0.25).draw(view, p.float().expand(1, n_rows, 1, n), torch.full((1, n_rows, 1), 24))
    assert found.inclusion is not None
    pi = found.inclusion[0, 0, 0]
    mean = torch.stack([weighed(logits, values, row, pi) for row in found.keep[0, :, 0]]).mean(dim=0)
    best = torch.zeros(n, dtype=torch.bool).index_fill(0, p.topk(24).indices, True)
    top_k = weighed(logits, values, best, torch.ones(n).double())
    truth = p @ values
    assert float((mean - truth).norm()) < 0.25 * float((top_k - truth).norm())


def test_the_certificate_is_the_error_that_draws_have() -> None:
    """Against the measured mean square of 4,000 draws, within 25 percent: to first order, and as if independent."""
    torch.manual_seed(2)
    n, n_rows = 48, 4000
    logits, values = torch.randn(n), torch.randn(n, 8) + 1
    p = torch.softmax(logits, dim=-1)
    view = view_of(torch.zeros(1, n_rows, 1, n, 8), values.expand(1, n_rows, 1, n, 8), last=p.expand(1, n_rows, 1, n))
    view = replace(view, streams=torch.arange(n_rows) * 104_729)
    selector = PoissonHajek(certain=0.25)
    found = selector.draw(view, p.expand(1, n_rows, 1, n), torch.full((1, n_rows, 1), 24))
    assert found.inclusion is not None
    certified = selector.expected_error(view, found.inclusion)
    assert bool((certified == certified[0]).all())
    pi, truth = found.inclusion[0, 0, 0], p.double() @ values.double()
    made = torch.stack([weighed(logits.double(), values.double(), row, pi) for row in found.keep[0, :, 0]])
    squared = (made - truth).square().sum(dim=-1) / truth.square().sum()
    measured = float(squared.mean().sqrt())
    assert 0.75 < measured / float(certified[0]) < 1.1
    within = float((squared.sqrt() <= 2 * certified[0]).double().mean())
    assert within > 0.95


class Weights(EngineHook):
    """Multiplies the weights of every event, next to the cache, by position."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.n_compared = engine, 0

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Check that new tokens stand for themselves and that none stands for less than one."""
        cache = self.engine.cache
        assert cache.mass is not None
        for state in states:
            mass, positions = cache.mass[:, state.index], cache.positions[:, state.index]
            assert bool((mass[positions >= 0] >= 1).all())
            newest = positions == cache.next_position[state.index] - 1
            assert bool((mass[newest] == 1).all())
            self.n_compared += int((mass > 1).sum())


def sampled(**axes: object) -> Mechanism:
    """H2O's scores with this selector."""
    scoring = H2O(selector=PoissonHajek(), recent=4)
    return mechanism("h2o").override("sampled", scoring=scoring, cadence=EveryK(k=4), decoding=Greedy(), **axes)


def test_the_weights_of_events_multiply_and_reach_attention() -> None:
    """Twice the same event doubles the logarithms; the engine's cache carries what the events left."""
    view = view_of(
        torch.randn(1, 1, 1, 12, 4), last=torch.rand(1, 1, 1, 12), accumulated=torch.rand(1, 1, 1, 12), target=7
    )
    arm = sampled()
    first = compress(arm, view)
    assert first.mass is not None
    again = compress(arm, replace(view, mass=first.mass))
    assert again.mass is not None
    kept = first.order[..., :7]
    once = first.mass.gather(-1, kept)
    assert torch.allclose(again.mass.gather(-1, kept), once * once)
    assert bool((once > 1).any())

    engine = Engine(toy_model(), arm, Budget(32), rows=2, max_new_tokens=60, max_prompt_tokens=40, burst=1)
    engine.hook = watch = Weights(engine)
    ids = tuple(3 + i % 60 for i in range(40))
    made = list(engine.generate([Request(f"p{i}", ids, stream_key(1, f"p{i}", 0)) for i in range(2)]))
    assert watch.n_compared > 0
    assert all(one.sampling_error is not None and 0 < one.sampling_error for one in made)
    assert made[0].token_ids != made[1].token_ids or made[0].sampling_error != made[1].sampling_error


def test_it_holds_on_the_engine_and_with_separate_budgets() -> None:
    """Ledger with the bytes of the weights, batch invariance, protection; the prompt kept, and in two parts."""
    check_mechanism(sampled(), toy_model(), Budget(32), n_new_tokens=40)
    check_mechanism(sampled(), toy_model(), Budget(32, prompt=12), n_new_tokens=40)
    kept = sampled().override("kept", scoring=H2O(selector=PoissonHajek(), recent=4, protect="prompt"))
    check_mechanism(kept, toy_model(), Budget(44), n_new_tokens=60)


def test_a_budget_in_bytes_pays_for_the_weights() -> None:
    """Four bytes per slot beside the 128 of two float32 vectors of 16 numbers."""
    geometry = toy_model().geometry
    plain = mechanism("h2o").override("plain", scoring=H2O(recent=4), cadence=EveryK(k=4))
    in_bytes = Budget(132, "bytes")
    assert plain.bind(in_bytes, geometry).steady_mean == 132
    assert sampled().bind(in_bytes, geometry).steady_mean == 128


def test_what_merges_is_refused() -> None:
    """An evicted token would count twice."""
    with pytest.raises(
        DeclarationError, match="'d2o' merges evicted tokens into kept ones, which selector 'poisson-hajek'"
    ):
        sampled(representation=D2O())
    assert strategy("selector", "poisson-hajek")().weighs
    assert not strategy("selector", "sampling")().weighs
