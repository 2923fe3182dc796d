"""Bits by attention and query norms, against the formulas written out and full attention matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from designspace.axes import Mechanism, Needs, Observed, Request
from designspace.axes.randomness import stream_key
from designspace.cache.attention import PrefillPass
from designspace.engine import Engine
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from families.cadence.never import Never
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.qaq import QAQ, RecentMaximum
from families.scoring.full import Full
from tests.conftest import start
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=2, heads=2, dim=16)


def bits_for(width: float, error: float, config: QAQ) -> int:
    """Bits for a range and an allowed error."""
    return max(config.min_bits, min(config.max_bits, math.ceil(math.log2(width / (2 * error) + 1))))


def value_bits(width: float, attention: float, n: int, config: QAQ) -> int:
    """Bits of a value."""
    return bits_for(width, math.sqrt(12 / n) * config.epsilon / attention if attention else math.inf, config)


def key_bits(width: float, norm: float, n: int, config: QAQ) -> int:
    """Bits of a key."""
    if norm == 0:
        return config.min_bits
    return bits_for(width, math.sqrt(12 / norm * math.log(n**3 * config.epsilon**2 / (n - 1) + 1)), config)


def sides(x: list[float], config: QAQ) -> tuple[set[int], float, float]:
    """Indices of outliers, least and largest of the rest."""
    h = math.ceil(config.outliers * len(x) / 2)
    order = sorted(range(len(x)), key=lambda i: x[i])
    rest = order[h : len(x) - h]
    return set(order) - set(rest), x[rest[0]], x[rest[-1]]


def coded(x: list[float], bits: int, config: QAQ) -> list[float]:
    """Quantise a token and back."""
    apart, low, high = sides(x, config)
    step = (high - low) / (2**bits - 1) or 1.0
    return [y if i in apart else round((y - low) / step) * step + low for i, y in enumerate(x)]


def test_hand_vector() -> None:
    """N=4, epsilon=.01, attention=.5, range=1: error .034641, log2(15.43) = 3.948, so 4 bits."""
    config = QAQ(epsilon=0.01)
    assert math.sqrt(12 / 4) * 0.01 / 0.5 == pytest.approx(0.034641, abs=1e-6)
    assert math.log2(1 / (2 * 0.034641) + 1) == pytest.approx(3.948, abs=1e-3)

    one = torch.tensor(1.0)
    assert int(config.value_bits(one, 0.5 * one, 4 * one)) == 4


def test_bits_follow_the_formulas() -> None:
    """Over a grid; more attention and longer queries ask for more, a large epsilon for the least."""
    for epsilon in (0.01, 0.1, 1e9):
        config = QAQ(epsilon=epsilon, min_bits=1, max_bits=8)
        for n in (2, 7, 300):
            found = []
            for x in (0.003, 0.02, 0.2, 0.9, 7.0, 60.0):
                a = config.value_bits(torch.tensor(2.5), torch.tensor(x), torch.tensor(float(n)))
                b = config.key_bits(torch.tensor(2.5), torch.tensor(x), torch.tensor(float(n)))
                assert (int(a), int(b)) == (value_bits(2.5, x, n, config), key_bits(2.5, x, n, config))
                found.append((int(a), int(b)))
            assert found == sorted(found)
            if epsilon == 1e9:
                assert set(found) == {(1, 1)}
    assert int(QAQ().value_bits(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(5.0))) == 1


def test_the_tracker_is_the_largest_of_the_last_rows() -> None:
    """Each channel one query; heads of a group give their largest."""
    tracker = RecentMaximum(3)
    rows = torch.softmax(numbers(7, 1, 4, 5), dim=-1)
    state = torch.zeros(1, 2, 5, 3)
    for now in range(7):
        state = tracker.observe(state, rows[now], torch.arange(5).expand(1, 2, 5), torch.tensor([now]))

    for head, slot in np.ndindex(2, 5):
        expected = max(float(rows[now, 0, h, slot]) for now in (4, 5, 6) for h in (2 * head, 2 * head + 1))
        assert float(state[0, head, slot].max()) == pytest.approx(expected)


def seen(config: QAQ, rows: int, slots: int, seed: int = 0) -> Observed:
    """Made-up observations."""
    queries = 3 * numbers(2, rows, 4, config.window, 16, seed=seed)
    tracked = numbers(2, rows, 2, slots, config.window, seed=seed + 1).abs() / 4
    positions = torch.arange(10, 10 + config.window).expand(rows, -1)
    return Observed(queries=queries, query_positions=positions, tracked={config.tracker: tracked})


CONFIGS = [QAQ(epsilon=0.05, window=4), QAQ(epsilon=0.3, window=3, outliers=0.0, min_bits=2, max_bits=6)]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_prompt_is_coded_as_the_formulas_say(config: QAQ) -> None:
    """Widths, decoded numbers and bytes, token by token."""
    keys, values = 2 * numbers(2, 2, 2, 9, 16), numbers(2, 2, 2, 9, 16, seed=1)
    d = Driver(config, GEOMETRY, rows=2)
    d.observed = seen(config, 2, 24)
    d.load(keys, values)
    read, totals, widths = d.read(), [0, 0], set()
    for layer, row, head, slot in np.ndindex(2, 2, 2, 9):
        k, v = keys[layer, row, head, slot].tolist(), values[layer, row, head, slot].tolist()
        observed = d.observed.queries[layer, row, 2 * head : 2 * head + 2]  # type: ignore[index]
        norm = max(float(q.norm()) for q in observed.flatten(0, 1))
        attention = float(d.observed.tracked[config.tracker][layer, row, head, slot].max())
        bits = [config.max_bits] * 2
        if slot < 9 - (config.window - 1):
            (_, low_k, high_k), (_, low_v, high_v) = sides(k, config), sides(v, config)
            bits = [key_bits(high_k - low_k, norm, 9, config), value_bits(high_v - low_v, attention, 9, config)]
        assert read[0][layer, row, head, slot].tolist() == pytest.approx(coded(k, bits[0], config), abs=1e-4)
        assert read[1][layer, row, head, slot].tolist() == pytest.approx(coded(v, bits[1], config), abs=1e-4)
        n_outliers = len(sides(k, config)[0])
        totals[row] += sum(math.ceil(b * 16 / 8) + 1 + 2 * 4 + n_outliers * (4 + 2) for b in bits)
        widths.update(bits)

    assert d.held_bytes() == totals
    assert len(widths) > 2


def test_a_token_is_coded_anew_when_it_leaves_the_newest() -> None:
    """At full width until window - 1 have come after it; then from what was read of it, by what was seen until then."""
    config = QAQ(epsilon=0.05, window=4)
    keys, values = 2 * numbers(2, 1, 2, 9, 16), numbers(2, 1, 2, 9, 16, seed=1)
    d = Driver(config, GEOMETRY)
    for position in range(9):
        d.observed = seen(config, 1, 24, seed=position)
        before = d.read()
        d.append(keys[:, :, :, position], values[:, :, :, position], position)
        after, leaving = d.read(), position - 3
        for layer, head in np.ndindex(2, 2):
            at = (layer, 0, head)
            for x, y in zip(before, after, strict=True):
                others = [slot for slot in range(position) if slot != leaving]
                assert torch.equal(x[at][others], y[at][others])
            assert after[0][at][position].tolist() == pytest.approx(
                coded(keys[at][position].tolist(), 8, config), abs=1e-4
            )
            if leaving < 0:
                continue
            k, v = (x[at][leaving].tolist() for x in before)
            # The newest place of the window is for this step's query, which the store must not look at.
            observed = d.observed.queries[layer, 0, 2 * head : 2 * head + 2, :-1]  # type: ignore[index]
            norm = max(float(q.norm()) for q in observed.flatten(0, 1))
            attention = float(d.observed.tracked[config.tracker][layer, 0, head, leaving].max())
            (_, low_k, high_k), (_, low_v, high_v) = sides(k, config), sides(v, config)
            bits = (
                key_bits(high_k - low_k, norm, position + 1, config),
                value_bits(high_v - low_v, attention, position + 1, config),
            )
            assert [int(b[layer, 0, head, leaving]) for b in (d.store.key_bits, d.store.value_bits)] == list(bits)
            assert after[0][at][leaving].tolist() == pytest.approx(coded(k, bits[0], config), abs=1e-4)
            assert after[1][at][leaving].tolist() == pytest.approx(coded(v, bits[1], config), abs=1e-4)


def test_one_width_for_all_is_the_same_written_or_loaded() -> None:
    """With min_bits = max_bits nothing depends on when a token is coded."""
    config = QAQ(min_bits=4, max_bits=4, window=3)
    keys, values = numbers(2, 2, 2, 9, 16), numbers(2, 2, 2, 9, 16, seed=1)
    loaded, written = Driver(config, GEOMETRY, rows=2), Driver(config, GEOMETRY, rows=2)
    loaded.observed = written.observed = seen(config, 2, 24)
    loaded.load(keys, values)
    written.append_all(keys, values)

    for a, b in zip(loaded.read(), written.read(), strict=True):
        assert (a - b)[:, :, :, :9].abs().max() < 1e-5
    assert loaded.held_bytes() == written.held_bytes()


def test_an_event_never_gives_bits_back() -> None:
    """More attention than before changes nothing of a token; less makes it coarser."""
    config = QAQ(epsilon=0.05, window=3)
    d = Driver(config, GEOMETRY)
    d.observed = seen(config, 1, 24)
    d.load(2 * numbers(2, 1, 2, 9, 16), numbers(2, 1, 2, 9, 16, seed=1))
    before, bits = d.read(), (d.store.key_bits.clone(), d.store.value_bits.clone())
    quiet = seen(config, 1, 24)
    loud = Observed(
        queries=100 * quiet.queries, query_positions=quiet.query_positions,  # type: ignore[operator]
        tracked={config.tracker: torch.ones(2, 1, 2, 24, 3)},
    )  # fmt: skip
    d.observed = loud
    d.keep(d.positions >= 0)
    for a, b in zip(before, d.read(), strict=True):
        assert (a - b)[:, :, :, :9].abs().max() < 1e-5
    assert torch.equal(d.store.key_bits[..., :9], bits[0][..., :9])
    assert torch.equal(d.store.value_bits[..., :9], bits[1][..., :9])

    d.observed = Observed(
        queries=quiet.queries / 1e3, query_positions=quiet.query_positions,  # type: ignore[operator]
        tracked={config.tracker: torch.full((2, 1, 2, 24, 3), 1e-6)},
    )  # fmt: skip
    d.keep(d.positions >= 0)
    assert d.store.value_bits[0, 0, 0, :9].tolist() == [1] * 7 + [8] * 2
    assert d.store.key_bits[0, 0, 0, :9].tolist() == [1] * 7 + [8] * 2


def test_queries_that_were_not_seen_do_not_count() -> None:
    """Their places hold anything."""
    config = QAQ(epsilon=0.05, window=4)
    keys, values = 2 * numbers(2, 1, 2, 9, 16), numbers(2, 1, 2, 9, 16, seed=1)
    stores = []
    for fill in (0.0, 1e4):
        d = Driver(config, GEOMETRY)
        d.observed = seen(config, 1, 24)
        d.observed.query_positions = torch.tensor([[-1, -1, 0, 1]])
        d.observed.queries[:, :, :, :2] = fill  # type: ignore[index]
        d.load(keys, values)
        stores.append(d.read()[0][:, :, :, :9])

    assert torch.equal(*stores)


def test_widths_after_a_prompt_are_those_of_its_attention_matrices(toy_llama: LoadedModel) -> None:
    """In the engine: maxima over the last rows of full attention, and norms of the last queries."""
    config, n = QAQ(epsilon=0.02, window=5), 21
    ids = tuple((torch.randperm(60, generator=torch.Generator().manual_seed(1))[:n] + 2).tolist())
    mechanism = Mechanism("test", Full(), Uniform(), Never(), config, Greedy())
    engine = Engine(toy_llama, mechanism, None, rows=1, max_new_tokens=4, max_prompt_tokens=n)
    with torch.inference_mode():
        start(engine, 0, Request("p", ids, stream_key(0, "p", 0)))
        prefill = PrefillPass(Needs(queries=n), toy_llama.geometry, n)
        toy_llama.model(input_ids=torch.tensor([ids]), use_cache=False, slots=prefill)
    prompt, store = prefill.prompt(), engine.cache.store
    found: list[Tensor] = [store.key_bits, store.value_bits]  # type: ignore[attr-defined]
    for layer, head in np.ndindex(2, 2):
        attention, norm = np.zeros(n), 0.0
        for h in (2 * head, 2 * head + 1):
            queries, keys = prompt.observed.queries[layer, 0, h], prompt.keys[layer, 0, head]  # type: ignore[index]
            for t in range(n - 5, n):
                row = torch.softmax(queries[t] @ keys[: t + 1].T / 4, dim=0).tolist()
                attention[: t + 1] = np.maximum(attention[: t + 1], row)
                norm = max(norm, float(queries[t].norm()))
        for slot in range(n - 4):
            k, v = (x[layer, 0, head, slot].tolist() for x in (prompt.keys, prompt.values))
            (_, low_k, high_k), (_, low_v, high_v) = sides(k, config), sides(v, config)
            expected = [
                key_bits(high_k - low_k, norm, n, config), value_bits(high_v - low_v, attention[slot], n, config),
            ]  # fmt: skip
            assert [int(x[layer, 0, head, slot]) for x in found] == expected
        assert found[0][layer, 0, head, n - 4 : n].tolist() == [8] * 4


def test_refusals() -> None:
    """Parameters out of their range, and head dimensions that outliers would use up."""
    for extra, said in (
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"window": 1}, "window must be at least 2"),
        ({"min_bits": 5, "max_bits": 4}, "min_bits must be at most max_bits, got min_bits=5, max_bits=4"),
        ({"max_bits": 9}, r"max_bits must lie in \[1, 8\], got max_bits=9"),
        ({"outliers": 1.0}, r"outliers must lie in \[0, 1\), got outliers=1.0"),
    ):
        with pytest.raises(DeclarationError, match=said):
            QAQ(**extra)  # type: ignore[arg-type]
    assert QAQ().unsupported_reason(GEOMETRY) is None
    assert "leaves nothing to code" in str(QAQ(outliers=0.9).unsupported_reason(GEOMETRY))
