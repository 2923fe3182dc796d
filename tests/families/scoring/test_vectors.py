"""Hand-computed vectors, and slow references written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.axes.artefact import Q_STATISTICS
from designspace.axes.rotary import as_bands, unrotate
from designspace.testing.views import view_of
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.r_kv import RKV
from families.scoring.random import Random
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV, pool_slots, window_attention
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.triattention import TriAttention
from tests.conftest import statistics_artefact


def kept(view: View, scores: Tensor, budget: int) -> list[int]:
    """Slots that a top-k keeps in the first head."""
    return TopK().select(view, scores, torch.full(view.counts.shape, budget))[0, 0, 0].nonzero()[:, 0].tolist()


def test_streaming_llm_s1() -> None:
    """N=10, b=6, s=2."""
    view = view_of(torch.zeros(1, 1, 1, 10, 2), sinks=2)

    assert kept(view, StreamingLLM(sinks=2).score(view), 6) == [0, 1, 6, 7, 8, 9]


def test_h2o_s2() -> None:
    """Uniform causal prefill of 6 tokens, two heavy and two recent ones."""
    sums = torch.tensor([sum(1 / (i + 1) for i in range(j, 6)) for j in range(6)])
    view = view_of(torch.zeros(1, 1, 1, 6, 2), accumulated=sums.view(1, 1, 1, 6), recent=2)

    assert sums.tolist() == pytest.approx([2.45, 1.45, 0.95, 0.6167, 0.3667, 0.1667], abs=1e-4)
    assert kept(view, H2O(recent=2).score(view), 4) == [0, 1, 4, 5]
    mean = H2O(recent=2, normalise="mean").score(view)
    assert mean.flatten().tolist() == pytest.approx([0.4083, 0.29, 0.2375, 0.2056, 0.1833, 0.1667], abs=1e-4)


def test_tova_s5() -> None:
    """Two heads' rows averaged; b=3 evicts index 1."""
    last = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]).view(1, 1, 2, 4)
    view = view_of(torch.zeros(1, 1, 2, 4, 2), last=last, recent=1)
    scores = TOVA().score(view)

    assert scores[0, 0, 0].tolist() == pytest.approx([0.3, 0.2, 0.25, 0.25])
    assert kept(view, scores, 3) == [0, 2, 3]
    uniform = view_of(torch.zeros(1, 1, 2, 4, 2), last=torch.full((1, 1, 2, 4), 0.25), recent=1)
    assert kept(uniform, TOVA().score(uniform), 2) == [2, 3]  # recency ties: a sliding window


@pytest.mark.parametrize(
    ("pool", "expected", "kept_two"),
    [("none", [0.5, 0.2, 0.5, 0.2], [0, 2]), ("avg", [0.2333, 0.4, 0.3, 0.2333], [1, 2]), ("max", [0.5] * 4, [2, 3])],
)
def test_snapkv_pooling_s4(pool: str, expected: list[float], kept_two: list[int]) -> None:
    """Kernel 3 on [.5, .2, .5, .2]."""
    view = view_of(torch.zeros(1, 1, 1, 4, 2))
    pooled = pool_slots(torch.tensor([0.5, 0.2, 0.5, 0.2]).view(1, 1, 1, 4), view.valid, 3, pool)  # type: ignore[arg-type]

    assert pooled.flatten().tolist() == pytest.approx(expected, abs=1e-4)
    assert kept(view, pooled, 2) == kept_two


def test_knorm_s7() -> None:
    """Norms [3, 1, 2, 4]: the two smallest stay, whatever the scale."""
    keys = torch.tensor([3.0, 1, 2, 4]).view(1, 1, 1, 4, 1).expand(-1, -1, -1, -1, 2)

    for scale in (1.0, 7.0):
        view = view_of(keys * scale)
        assert kept(view, KNorm(recent=0).score(view), 2) == [1, 2]


def test_r_kv_redundancy_s6() -> None:
    """Three copies and one orthogonal key: the newest copy is spared like the orthogonal one."""
    view = view_of(
        torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]]).view(1, 1, 1, 4, 2), queries=torch.zeros(1, 1, 1, 1, 2)
    )
    redundancy = RKV(recent=1).redundancy(view)

    assert redundancy.flatten().tolist() == pytest.approx([0.33424, 0.26031, 0.20273, 0.20273], abs=1e-5)
    mixed = 0.1 * 0.25 - 0.9 * redundancy
    assert mixed.flatten().tolist() == pytest.approx([-0.27582, -0.20928, -0.15745, -0.15745], abs=1e-5)


def test_r_kv_spares_nothing_without_a_neighbour_s6() -> None:
    """No cosine above the threshold: nothing is zeroed (the released code zeroes column 0)."""
    keys = torch.tensor([[1.0, 0], [0.4, 0.9165], [0, -1]]).view(1, 1, 1, 3, 2)
    view = view_of(keys, queries=torch.zeros(1, 1, 1, 1, 2))
    means = torch.tensor([0.13333, -0.17217, -0.30551])

    assert RKV(recent=1).redundancy(view).flatten().tolist() == pytest.approx(means.softmax(0).tolist(), abs=1e-4)


def test_random_priorities_stay_with_their_token_s14() -> None:
    """A token's priority does not depend on its slot or on what else is held, and differs between rows and heads."""
    keys = torch.zeros(2, 2, 2, 5, 2)
    first = Random(recent=0).score(view_of(keys))
    moved = Random(recent=0).score(view_of(keys[..., :3, :], positions=torch.tensor([1, 3, 4]).expand(2, 2, 2, 3)))

    assert torch.equal(moved, first[..., [1, 3, 4]])
    assert first.unique().numel() == first.numel()
    assert 0 <= float(first.min()) and float(first.max()) < 1


def triattention_grid(
    view: View, mean: Tensor, modulus: Tensor, t: int, offsets: list[int], *, trig: bool = True, norm: bool = True
) -> Tensor:
    """The score from its definition: invert RoPE at each key's position, then the grid over offsets and bands. float64."""
    n_layers, _, n_kv, n_slots, _ = view.keys.shape
    group = view.geometry.group
    out = torch.zeros(n_layers, n_kv, group, n_slots, dtype=torch.float64)
    omega = view.geometry.inv_freq.double()
    for layer in range(n_layers):
        for head in range(n_kv * group):
            for slot in range(n_slots):
                p = int(view.positions[layer, 0, head // group, slot])
                rotated = as_bands(view.keys[layer, 0, head // group, slot]).to(torch.complex128)
                k = rotated * torch.polar(torch.ones_like(omega), -omega * p)
                m, n = mean[layer, head].to(torch.complex128), modulus[layer, head].double()
                phi = (m * k.conj()).angle()
                series = [(m.abs() * k.abs() * torch.cos(omega * (t - p + d) + phi)).sum() for d in offsets]
                norms = ((n - m.abs()) * k.abs()).sum()
                out[layer, head // group, head % group, slot] = trig * sum(series) / len(series) + norm * norms
    return out


@pytest.mark.parametrize("switches", [{}, {"trig": False}, {"norm": False}])
@pytest.mark.parametrize("dim", [8, 32])
def test_triattention_fast_form_equals_the_grid(dim: int, switches: dict[str, bool]) -> None:
    """One product per head on rotated keys equals inversion at the true positions, with gaps after two prunes.

    The kernel, where there is one, takes heads of 32 dimensions and leaves those of 8 to the plain path.
    """
    generator = torch.Generator().manual_seed(1)
    shape = (2, 4, dim // 2)
    mean = torch.complex(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    modulus = mean.abs() * 1.3
    positions = torch.tensor([0, 3, 4, 9, 40, 41, 77]).expand(2, 1, 2, 7)
    view = view_of(
        torch.randn(2, 1, 2, 7, dim, generator=generator), positions=positions, next_position=80, n_query_heads=4,
        artefacts={Q_STATISTICS: statistics_artefact(mean, modulus)}, inv_freq=torch.logspace(0, -3, dim // 2),
    )  # fmt: skip
    scoring = TriAttention(offset_max=65536, **switches)

    expected = triattention_grid(view, mean, modulus, 80, [2**i for i in range(17)], **switches)
    assert torch.allclose(scoring.head_scores(view)[:, 0].double(), expected, atol=1e-4)


def test_noise_is_the_hash_of_layer_head_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a table or computed on the spot, whichever the size of the table allows; z itself is left alone."""
    from designspace.axes.randomness import hash_uniform
    from families.scoring import triattention

    generator = torch.Generator().manual_seed(3)
    mean = torch.complex(torch.randn(2, 4, 4, generator=generator), torch.randn(2, 4, 4, generator=generator))
    positions = torch.tensor([[2, 5, 31, -1], [0, 7, 8, 9]]).expand(2, 2, 2, 4)
    view = view_of(
        torch.randn(2, 2, 2, 4, 8, generator=generator), positions=positions, next_position=32, n_query_heads=4,
        artefacts={Q_STATISTICS: statistics_artefact(mean, mean.abs())}, inv_freq=torch.tensor([1.0, 0.1, 0.01, 0.001]),
    )  # fmt: skip
    arm = {"scope": "layer-head", "group": "mean", "normalise": False}
    added = [TriAttention(noise=noise, **arm).score(view) for noise in (0.0, 512.0)]
    monkeypatch.setattr(triattention, "_LARGEST_TABLE", 0)
    on_the_spot = TriAttention(noise=512.0, **arm).score(view)

    assert torch.equal(added[1][view.valid], on_the_spot[view.valid])
    for layer, row, head, slot in view.valid.nonzero().tolist():
        place = int(positions[layer, row, head, slot])
        numbers = [float(hash_uniform(*map(torch.tensor, (layer, 2 * head + i, place)))) for i in range(2)]
        gained = float((added[1] - added[0])[layer, row, head, slot])
        assert gained == pytest.approx(512 * sum(numbers) / 2, abs=1e-3)


def test_unrotate_undoes_rope() -> None:
    """Rotate, then un-rotate, is the identity to 1e-5."""
    view = view_of(torch.zeros(1, 1, 1, 1, 8), inv_freq=torch.tensor([1.0, 0.1, 0.01, 0.001]), attention_scaling=1.2)
    x, positions = torch.randn(5, 8), torch.tensor([0, 1, 17, 400, 30000])
    angle = positions.double()[:, None] * view.geometry.inv_freq.double()
    rotated = as_bands(x) * (1.2 * torch.polar(torch.ones_like(angle), angle)).to(torch.complex64)

    assert torch.allclose(unrotate(rotated, positions, view.geometry), as_bands(x), atol=1e-5)


def test_global_scope_is_top_k_of_the_maximum() -> None:
    """Mode G: the union of the heads' proposals, best first, is plain top-k of the maximum."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        z, k = torch.randn(2, 1, 2, 2, 12, generator=generator), 5
        view = view_of(torch.zeros(2, 1, 2, 12, 4), n_query_heads=4)
        scores = TriAttention().reduce(view, z)
        heads = z[:, 0].reshape(-1, 12)
        union = {int(i) for row in heads for i in row.topk(k).indices}
        best = heads.amax(dim=0)
        proposed = sorted(sorted(union, key=lambda i: -float(best[i]))[:k])
        assert kept(view, scores, k) == proposed


@pytest.mark.parametrize("group", ["mean", "max"])
def test_snapkv_against_loops(group: str) -> None:
    """Window attention from the definition: softmax over the keys a query may see; mean over queries, then the group."""
    generator = torch.Generator().manual_seed(4)
    keys, queries = torch.randn(1, 1, 2, 9, 4, generator=generator), torch.randn(1, 1, 4, 3, 4, generator=generator)
    positions = torch.tensor([0, 2, 3, 7, 8, 11, 12, 13, 14]).expand(1, 1, 2, 9)
    view = view_of(keys, positions=positions, next_position=15, queries=queries, recent=3)
    by_head = torch.zeros(4, 9)
    for head in range(4):
        for i, q_position in enumerate((12, 13, 14)):
            seen = [j for j in range(9) if int(positions[0, 0, 0, j]) <= q_position]
            logits = [float(queries[0, 0, head, i] @ keys[0, 0, head // 2, j]) / 2 for j in seen]
            total = sum(math.exp(x) for x in logits)
            for j, x in zip(seen, logits, strict=True):
                by_head[head, j] += math.exp(x) / total / 3
    pairs = list(zip(by_head[::2].tolist(), by_head[1::2].tolist(), strict=True))
    expected = torch.tensor(
        [[max(a, b) if group == "max" else (a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in pairs]
    )

    assert torch.allclose(window_attention(view, group)[0, 0], expected, atol=1e-6)  # type: ignore[arg-type]


def test_snapkv_by_the_mean_keeps_its_ids() -> None:
    """It was all there was, without a parameter."""
    known = {
        "kind": "snapkv", "version": 1, "selector": {"kind": "top-k", "version": 1}, "sinks": 0, "recent": 8, "kernel": 7,
        "pool": "max",
    }  # fmt: skip

    assert SnapKV().identity() == known
    assert SnapKV(group="max").identity() == {**known, "group": "max"}


def test_keydiff_s8() -> None:
    """Keys (1,0), (1,0), (0,1): the odd one out stays, whatever the scale of a key."""
    for scale in (1.0, 9.0):
        keys = torch.tensor([[1.0, 0], [scale, 0], [0, 1]]).view(1, 1, 1, 3, 2)
        scores = KeyDiff(recent=0).score(view_of(keys))
        assert (-scores).flatten().tolist() == pytest.approx([0.8944, 0.8944, 0.4472], abs=1e-4)
        assert kept(view_of(keys), scores, 1) == [2]


def test_expected_attention_s9() -> None:
    """No rotation, mu = (1,0), unit covariance, keys (1,0) and (0,2): the covariance turns the order."""
    view = view_of(torch.tensor([[1.0, 0], [0, 2]]).view(1, 1, 1, 2, 2), inv_freq=torch.zeros(1), n_query_heads=1)
    mean, covariance = torch.tensor([1.0, 0]).view(1, 1, 1, 2), torch.eye(2).view(1, 1, 1, 2, 2)
    with_covariance, without = (
        ExpectedAttention(covariance=on, value_norm=False, sinks=0).from_statistics(view, mean, covariance)
        for on in (True, False)
    )

    assert with_covariance.flatten().tolist() == pytest.approx([0.48928, 0.51072], abs=1e-5)
    assert without.flatten().tolist() == pytest.approx([0.66976, 0.33024], abs=1e-5)


def test_expected_attention_takes_its_statistics_from_unrotated_queries() -> None:
    """Queries rotated at their positions give the statistics of the queries themselves; unseen ones do not count."""
    generator = torch.Generator().manual_seed(6)
    inv_freq = torch.tensor([1.0, 0.1])
    pre = torch.randn(1, 1, 2, 5, 4, generator=generator)
    positions = torch.tensor([-1, 3, 4, 5, 6])
    bands = as_bands(pre) * torch.polar(torch.ones(5, 2), positions.clamp(min=0)[:, None] * inv_freq)
    view = view_of(
        torch.randn(1, 1, 1, 7, 4, generator=generator),
        queries=torch.cat([bands.real, bands.imag], dim=-1),
        inv_freq=inv_freq,
    )
    view.observed.query_positions = positions[None]
    mean = pre[..., 1:, :].mean(dim=-2)
    centred = pre[..., 1:, :] - mean[..., None, :]
    scoring = ExpectedAttention(window=5, n_future=8, sinks=1)

    expected = scoring.from_statistics(view, mean, centred.mT @ centred / 4)
    assert torch.allclose(scoring.score(view), expected, atol=1e-5)
