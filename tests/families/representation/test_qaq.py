"""Bits by attention and query norms, against the formulas written out and full attention matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from designspace.axes import Mechanism, Needs, Observed, Request
from designspace.axes.randomness import stream_key
from designspace.cache.prefill_pass import PrefillPass
from designspace.engine import Engine
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from families.cadence.never import Never
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.centred_codes import encode
from families.representation.qaq import QAQ, RecentMaximum, Side
from families.scoring.full import Full
from tests.conftest import start
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=2, heads=2, dim=16)


def bits_for(width: float, error: float, side: Side) -> int:
    """Bits for a range and an allowed error."""
    return max(side.min_bits, min(side.max_bits, math.ceil(math.log2(width / (2 * error) + 1))))


def value_bits(width: float, attention: float, n: int, config: QAQ) -> int:
    """Bits of a value."""
    side = config.values
    return bits_for(width, math.sqrt(12 / n) * side.epsilon / attention if attention else math.inf, side)


def key_bits(width: float, norm: float, n: int, config: QAQ) -> int:
    """Bits of a key."""
    side, norm = config.keys, norm if config.query_norm is None else config.query_norm
    if norm == 0:
        return side.min_bits
    return bits_for(width, math.sqrt(12 / norm * math.log(n**3 * side.epsilon**2 / (n - 1) + 1)), side)


def inside(x: list[float], outliers: float) -> list[int]:
    """Indices of a token's elements that are no outliers, by size."""
    lowest = math.ceil(outliers / 2 * len(x))
    return sorted(range(len(x)), key=lambda i: x[i])[lowest : math.floor((1 - outliers / 2) * len(x))]


def width_of(x: list[float], outliers: float) -> float:
    """The range of a token."""
    rest = inside(x, outliers)
    return x[rest[-1]] - x[rest[0]]


def coded(x: list[float], bits: int, outliers: float = 0.0) -> list[float]:
    """Quantise a token and back: codes around the mean, of which there is one less above it than below."""
    rest = inside(x, outliers)
    mean, step = sum(x[i] for i in rest) / len(rest), width_of(x, outliers) / 2**bits
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bits else (-0.5, -0.5)
    return [
        (min(max(round((y - mean) / step), lowest), highest) * step if step else 0.0) + mean if i in rest else y
        for i, y in enumerate(x)
    ]


def near_half(x: list[float], bits: int, outliers: float) -> list[bool]:
    """Which elements lie halfway between two codes, but for rounding: codes of codes often do."""
    rest, step = inside(x, outliers), width_of(x, outliers) / 2**bits or 1.0
    mean = sum(x[i] for i in rest) / len(rest)
    return [abs((y - mean) / step % 1 - 0.5) < 1e-4 for y in x]


def read_back(x: Tensor, bits: int, n_outliers: int = 0) -> Tensor:
    """The same by the code under test."""
    return encode(x, torch.full(x.shape[:-1], bits, dtype=torch.uint8), n_outliers).decoded()


def test_codes_by_hand() -> None:
    """Mean .25, step .25: the 1 lies three steps above the mean, and two bits reach one step above it."""
    x = torch.tensor([0.0, 0.0, 0.0, 1.0])

    assert read_back(x, 2).tolist() == [0.0, 0.0, 0.0, 0.5]
    assert read_back(x, 1).tolist() == [0.25] * 4
    assert read_back(x, 0).tolist() == [-0.25] * 4
    assert read_back(x, 8).tolist() == pytest.approx(coded(x.tolist(), 8), abs=1e-7)
    assert read_back(torch.full((4,), 3.0), 0).tolist() == [3.0] * 4
    assert read_back(torch.tensor([0.0, 9.0, 1.0, -9.0]), 1, 1).tolist() == [0.0, 9.0, 0.5, -9.0]


@pytest.mark.parametrize(("bits", "expected"), [(1, 0.871), (2, 0.409), (3, 0.202), (4, 0.104)])
def test_the_error_on_normal_numbers(bits: int, expected: float) -> None:
    """Root mean square over 2,000 tokens of 128 elements."""
    x = numbers(2000, 128)

    assert float((read_back(x, bits) - x).square().mean().sqrt()) == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("bits", range(9))
@pytest.mark.parametrize("outliers", [0.0, 0.05, 0.3])
def test_codes_equal_the_slow_reference(bits: int, outliers: float) -> None:
    """Element by element; outliers bit for bit."""
    x = numbers(20, 24, seed=bits)
    found = read_back(x, bits, Side(1.0, 1, 1, 4, outliers).n_outliers(24))

    for row, token in zip(found.tolist(), x.tolist(), strict=True):
        assert row == pytest.approx(coded(token, bits, outliers), abs=1e-5)
        assert [row[i] for i in range(24) if i not in inside(token, outliers)] == [
            token[i] for i in range(24) if i not in inside(token, outliers)
        ]


def test_the_default_is_a_point_of_the_authors_search() -> None:
    """Epsilon 1 … 30, 0 to 2 and 2 to 4 bits, windows of 1 or 5, outliers 0 or .01, a constant norm of 300."""
    config = QAQ()

    assert config.keys == config.values
    assert config.keys.epsilon in (1, 3, 10, 30) and config.keys.window in (1, 5)
    assert config.keys.min_bits in (0, 1, 2) and config.keys.max_bits in (2, 3, 4)
    assert config.keys.outliers in (0, 0.01) and config.query_norm == 300


def test_keys_and_values_have_their_own_parameters() -> None:
    """Those of values are named; what is left out is that of keys."""
    config = QAQ(value_epsilon=30.0, value_min_bits=0, value_window=1, outliers=0.0)

    assert config.keys == Side(1.0, 5, 2, 4, 0.0)
    assert config.values == Side(30.0, 1, 0, 4, 0.0)
    assert config.tracker == RecentMaximum(1)
    one = torch.tensor(1.0)
    assert int(config.value_bits(one, 0 * one, 9 * one)) == 0  # nothing attended to it
    assert int(config.value_bits(one, one / 1000, 9 * one)) == 1
    assert int(QAQ(min_bits=0).key_bits(one / 1e6, 300 * one, 9 * one)) == 1


def test_hand_vector() -> None:
    """N=4, epsilon=.01, attention=.5, range=1: error .034641, log2(15.43) = 3.948, so 4 bits."""
    config = QAQ(epsilon=0.01, max_bits=8)
    assert math.sqrt(12 / 4) * 0.01 / 0.5 == pytest.approx(0.034641, abs=1e-6)
    assert math.log2(1 / (2 * 0.034641) + 1) == pytest.approx(3.948, abs=1e-3)

    one = torch.tensor(1.0)
    assert int(config.value_bits(one, 0.5 * one, 4 * one)) == 4


def test_bits_follow_the_formulas() -> None:
    """Over a grid; more attention and longer queries ask for more, a large epsilon for the least."""
    for epsilon in (0.01, 0.1, 1e9):
        config = QAQ(epsilon=epsilon, min_bits=1, max_bits=8, query_norm=None)
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
    assert int(QAQ(min_bits=1).value_bits(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(5.0))) == 1


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
    tracked = numbers(2, rows, 2, slots, config.values.window, seed=seed + 1).abs() / 4
    found = Observed(tracked={config.tracker: tracked})
    if config.query_norm is None:
        window = max(config.window, 2)
        found.queries = 3 * numbers(2, rows, 4, window, 16, seed=seed)
        found.query_positions = torch.arange(10, 10 + window).expand(rows, -1)
    return found


def norm_of(observed: Observed, at: tuple[int, int, int], places: slice) -> float:
    """The largest norm of the queries of one KV head; 0 where they are not needed."""
    layer, row, head = at
    if observed.queries is None:
        return 0.0
    return max(float(q.norm()) for q in observed.queries[layer, row, 2 * head : 2 * head + 2, places].flatten(0, 1))


CONFIGS = [
    QAQ(epsilon=0.05, window=4, min_bits=1, max_bits=8, query_norm=None),
    QAQ(epsilon=0.3, window=3, outliers=0.0, min_bits=2, max_bits=6, query_norm=20.0),
    QAQ(epsilon=0.3, window=1, min_bits=1, query_norm=None, value_window=2, value_epsilon=0.05, value_min_bits=0,
        value_max_bits=7, value_outliers=0.2),
    QAQ(value_epsilon=0.1, value_window=1, min_bits=1),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_prompt_is_coded_as_the_formulas_say(config: QAQ) -> None:
    """Widths, decoded numbers and bytes, token by token."""
    keys, values = 2 * numbers(2, 2, 2, 9, 16), numbers(2, 2, 2, 9, 16, seed=1)
    d = Driver(config, GEOMETRY, rows=2)
    d.observed = seen(config, 2, 24)
    d.load(keys, values)
    read, totals, widths = d.read(), [0, 0], set()
    for layer, row, head, slot in np.ndindex(2, 2, 2, 9):
        at = (layer, row, head)
        k, v = keys[at][slot].tolist(), values[at][slot].tolist()
        attention = float(d.observed.tracked[config.tracker][at][slot].max())
        norm = norm_of(d.observed, at, slice(-config.window, None))
        for x, x_read, side, asked in (
            (k, read[0], config.keys, key_bits(width_of(k, config.keys.outliers), norm, 9, config)),
            (v, read[1], config.values, value_bits(width_of(v, config.values.outliers), attention, 9, config)),
        ):
            bits = asked if slot < 9 - (side.window - 1) else side.max_bits
            assert x_read[at][slot].tolist() == pytest.approx(coded(x, bits, side.outliers), abs=1e-4)
            totals[row] += math.ceil(bits * 16 / 8) + 1 + 2 * 4 + (16 - len(inside(x, side.outliers))) * (4 + 2)
            widths.add(bits)

    assert d.held_bytes() == totals
    assert len(widths) > 2


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_token_is_coded_anew_when_it_leaves_the_newest(config: QAQ) -> None:
    """At full width until the window has moved on; then from what was read of it, by what was seen until then."""
    keys, values = 2 * numbers(2, 1, 2, 9, 16), numbers(2, 1, 2, 9, 16, seed=1)
    d = Driver(config, GEOMETRY)
    n_coarser = 0
    for position in range(9):
        d.observed = seen(config, 1, 24, seed=position)
        before = d.read()
        widths = [x.clone() for x in (d.store.key_bits, d.store.value_bits)]  # type: ignore[attr-defined]
        d.append(keys[:, :, :, position], values[:, :, :, position], position)
        after = d.read()
        now = d.store.key_bits, d.store.value_bits  # type: ignore[attr-defined]
        for layer, head in np.ndindex(2, 2):
            at = (layer, 0, head)
            for x, y, of_side, new, old, side in zip(
                before, after, (keys, values), now, widths, (config.keys, config.values), strict=True
            ):
                leaving = position - max(side.window - 1, 1)
                others = [slot for slot in range(position) if slot != leaving]
                assert torch.equal(x[at][others], y[at][others])
                whole = coded(of_side[at][position].tolist(), side.max_bits, side.outliers)
                assert y[at][position].tolist() == pytest.approx(whole, abs=1e-4)
                if leaving < 0:
                    continue
                token = x[at][leaving].tolist()
                width = width_of(token, side.outliers)
                # The newest place of the window is for this step's query, which the store must not look at.
                norm = norm_of(d.observed, at, slice(-1))
                attention = float(d.observed.tracked[config.tracker][at][leaving].max())
                asked = (
                    key_bits(width, norm, position + 1, config)
                    if of_side is keys
                    else value_bits(width, attention, position + 1, config)
                )
                assert int(new[at][leaving]) == min(asked, int(old[at][leaving]))
                expected = coded(token, asked, side.outliers) if asked < int(old[at][leaving]) else token
                even = near_half(token, asked, side.outliers)
                assert sum(even) < 4
                for found, wanted, tie in zip(y[at][leaving].tolist(), expected, even, strict=True):
                    assert tie or found == pytest.approx(wanted, abs=1e-4)
                n_coarser += asked < int(old[at][leaving])
    assert n_coarser > 10


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
    config = QAQ(epsilon=0.05, window=3, min_bits=1, max_bits=8, query_norm=None)
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
    for a, b in zip(before, d.read(), strict=True):  # bit for bit: codes of clipped numbers would clip them again
        assert torch.equal(a[:, :, :, :9], b[:, :, :, :9])
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
    config = QAQ(epsilon=0.05, window=4, max_bits=8, query_norm=None)
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


@pytest.mark.parametrize("query_norm", [None, 300.0])
def test_widths_after_a_prompt_are_those_of_its_attention_matrices(
    toy_llama: LoadedModel, query_norm: float | None
) -> None:
    """In the engine: maxima over the last rows of full attention, and norms of the last queries."""
    config, n = QAQ(epsilon=0.02, window=5, min_bits=1, max_bits=8, query_norm=query_norm), 21
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
            expected = [
                key_bits(width_of(k, config.outliers), norm, n, config),
                value_bits(width_of(v, config.outliers), attention[slot], n, config),
            ]
            assert [int(x[layer, 0, head, slot]) for x in found] == expected
        assert found[0][layer, 0, head, n - 4 : n].tolist() == [8] * 4


def test_refusals() -> None:
    """Parameters out of their range, and head dimensions that outliers would use up."""
    for extra, said in (
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"window": 0}, "window must be at least 1"),
        ({"query_norm": 0.0}, "query_norm must be above 0"),
        ({"min_bits": 5, "max_bits": 4}, "min_bits must be at most max_bits, got min_bits=5, max_bits=4"),
        (
            {"value_max_bits": 1},
            "value_min_bits must be at most value_max_bits, got value_min_bits=2, value_max_bits=1",
        ),
        ({"max_bits": 9}, r"max_bits must lie in \[1, 8\], got max_bits=9"),
        ({"outliers": 1.0}, r"outliers must lie in \[0, 1\), got outliers=1.0"),
    ):
        with pytest.raises(DeclarationError, match=said):
            QAQ(**extra)  # type: ignore[arg-type]
    assert QAQ().unsupported_reason(GEOMETRY) is None
    assert "leaves nothing to code" in str(QAQ(outliers=0.9).unsupported_reason(GEOMETRY))
    assert "outliers=0.95" in str(QAQ(value_outliers=0.95).unsupported_reason(GEOMETRY))
