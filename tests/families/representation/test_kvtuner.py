"""Per-layer code widths: the choice against brute force, the store against one KIVI store per layer."""

from __future__ import annotations

import itertools

import pytest
import torch

from designspace.axes import Artefact, Needs
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import DeclarationError, InfeasibleBudget
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.calibrations.kvtuner_calibration import measure
from families.representation.kivi import Kivi
from families.representation.kvtuner import KVTuner, choose_pairs
from tests.families.representation.drive import Driver, geometry_of, numbers

FIVE = ((8, 8), (8, 4), (4, 4), (4, 2), (2, 2))
NINE = tuple(itertools.product((8, 4, 2), (8, 4, 2)))


def mean_bits(pairs: object) -> float:
    """Mean of all key and value bits."""
    flat = [bits for pair in pairs for bits in pair]  # type: ignore[attr-defined]
    return sum(flat) / len(flat)


def test_mean_of_the_published_example() -> None:
    """[8/8], [4/2], [4/2], [2/2] have 4 bits in the mean."""
    assert mean_bits(((8, 8), (4, 2), (4, 2), (2, 2))) == 4.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("choices", [FIVE, NINE[::2]], ids=["five", "others"])
def test_the_choice_is_the_best_of_all(seed: int, choices: tuple[tuple[int, int], ...]) -> None:
    """Least summed error under the constraint, found by trying everything."""
    error = numbers(4, len(choices), seed=seed).abs().tolist()
    for most in (2.0, 2.5, 3.1, 4.0, 5.75, 8.0):
        if most < min(sum(pair) / 2 for pair in choices):
            continue
        best = min(
            sum(error[layer][i] for layer, i in enumerate(combination))
            for combination in itertools.product(range(len(choices)), repeat=4)
            if mean_bits([choices[i] for i in combination]) <= most
        )
        chosen = choose_pairs(error, choices, most)  # type: ignore[arg-type]

        assert mean_bits(chosen) <= most
        assert sum(error[layer][choices.index(pair)] for layer, pair in enumerate(chosen)) == pytest.approx(best)


def test_more_bits_never_cost_more_error_and_eight_buy_everything() -> None:
    """Monotone in the constraint; 8 bits in the mean allow 8/8 everywhere."""
    error = [[0.1, 0.2, 0.3, 0.5, 0.9], [0.01, 0.2, 0.2, 0.3, 0.4], [0.1, 0.11, 0.6, 0.7, 0.8]]
    totals = []
    for tenths in range(20, 81):
        chosen = choose_pairs(error, FIVE, tenths / 10)  # type: ignore[arg-type]
        totals.append(sum(error[layer][FIVE.index(pair)] for layer, pair in enumerate(chosen)))

    assert totals == sorted(totals, reverse=True)
    assert chosen == [(8, 8)] * 3


def test_equal_errors_take_the_fewest_bits() -> None:
    """A layer that does not care gets 2/2."""
    assert choose_pairs([[0.5] * 5, [0.1, 0.5, 0.5, 0.5, 0.5]], FIVE, 8.0) == [(2, 2), (8, 8)]  # type: ignore[arg-type]


GEOMETRY = geometry_of(layers=3, heads=2, dim=16)
GIVEN = ((8, 2), (4, 4), (2, 8))


def stores(pairs: tuple[tuple[int, int], ...], **options: object) -> tuple[Driver, list[Driver]]:
    """The store under test, and a KIVI store for each layer alone."""
    tuned = Driver(KVTuner(pairs=pairs, group=8, residual=8), GEOMETRY, rows=2, capacity=30, **options)  # type: ignore[arg-type]
    one = geometry_of(layers=1, heads=2, dim=16)
    plain = [Driver(Kivi(k, 8, 8, v), one, rows=2, capacity=30) for k, v in pairs]  # type: ignore[arg-type]
    return tuned, plain


def test_every_layer_is_a_kivi_store_of_its_own_widths() -> None:
    """Loaded, appended, cut: what is read, and the bytes."""
    tuned, plain = stores(GIVEN)
    keys, values = numbers(3, 2, 2, 28, 16), numbers(3, 2, 2, 28, 16, seed=1)
    keep = numbers(3, 2, 2, 30, seed=4) > 0
    tuned.load(keys[:, :, :, :20], values[:, :, :, :20])
    for layer, kivi in enumerate(plain):
        kivi.load(keys[layer : layer + 1, :, :, :20], values[layer : layer + 1, :, :, :20])

    def step(d: Driver, layers: slice) -> None:
        for position in range(20, 28):
            d.append(keys[layers, :, :, position], values[layers, :, :, position], position)
        d.keep(keep[layers] & (d.positions >= 0))

    step(tuned, slice(None))
    for layer, kivi in enumerate(plain):
        step(kivi, slice(layer, layer + 1))
    for ours, theirs in zip(tuned.read(), zip(*(kivi.read() for kivi in plain), strict=True), strict=True):
        assert torch.equal(ours, torch.cat(theirs))
    assert tuned.held_bytes() == [sum(x) for x in zip(*(kivi.held_bytes() for kivi in plain), strict=True)]
    assert tuned.store.allocated_bytes() == sum(kivi.store.allocated_bytes() for kivi in plain)


def test_one_pair_is_for_all_layers_and_shared_layers_keep_theirs() -> None:
    """Broadcast; where only layers 0 and 2 own a cache, they have the pairs of layers 0 and 2."""
    room = Driver(KVTuner(pairs=((4, 2),), group=8, residual=8), GEOMETRY).store
    owning = GEOMETRY.owning((0, 0, 2))
    some = Driver(KVTuner(pairs=GIVEN, group=8, residual=8), owning).store

    assert [layer.config.widths for layer in room.layers] == [(4, 2)] * 3
    assert [layer.config.widths for layer in some.layers] == [(8, 2), (2, 8)]


def test_pairs_are_chosen_from_the_calibration() -> None:
    """The artefact's columns are found by pair, its rows by layer."""
    error = torch.ones(3, 9)
    error[1, NINE.index((4, 4))] = 0.0
    error[2, NINE.index((8, 4))] = 0.0
    artefacts = {"kv-tuner": Artefact("kv-tuner", {"error": error, "pairs": torch.tensor(NINE)})}

    def chosen(geometry: object, bits: float) -> list[tuple[int, int]]:
        config = KVTuner(mean_bits=bits, group=8, residual=8)
        d = Driver(config, geometry, artefacts=artefacts)  # type: ignore[arg-type]
        return [layer.config.widths for layer in d.store.layers]

    assert chosen(GEOMETRY, 4.0) == [(2, 2), (4, 4), (8, 4)]
    assert chosen(GEOMETRY, 2.9) == [(2, 2), (4, 4), (2, 2)]
    assert chosen(GEOMETRY.owning((0, 0, 2)), 4.0) == [(2, 2), (8, 4)]


def attention_output(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention [H_q,T,D] written out, q: [H_q,T,D], k and v: [H_kv,T,D]."""
    out = torch.zeros_like(q)
    group = q.shape[0] // k.shape[0]
    for head in range(q.shape[0]):
        for t in range(q.shape[1]):
            weights = torch.softmax(q[head, t] @ k[head // group, : t + 1].T / q.shape[2] ** 0.5, dim=0)
            out[head, t] = weights @ v[head // group, : t + 1]
    return out


def rough(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Quantise a group of numbers and back."""
    step = (x.max() - x.min()) / (2**bits - 1)
    return torch.stack([torch.round((y - x.min()) / step) * step + x.min() for y in x])


def test_sensitivity_is_the_relative_error_of_the_attention_output(toy_llama: LoadedModel) -> None:
    """One pair, by hand: keys in groups of 16 tokens per channel, values in groups of 16 channels per token."""
    ids = tuple(range(5, 42))  # two whole groups of keys and five exact ones
    found = measure(toy_llama, Corpus((ids,), (), "counting"))
    seen = PrefillPass(Needs(queries=len(ids)), toy_llama.geometry, len(ids))
    toy_llama.model(input_ids=torch.tensor([ids]), use_cache=False, slots=seen)
    prompt = seen.prompt()

    for layer in range(2):
        q, k, v = (x[layer, 0].double() for x in (prompt.observed.queries, prompt.keys, prompt.values))  # type: ignore[index]
        k_rough, v_rough = k.clone(), v.clone()
        for head in range(2):
            for start in (0, 16):
                for channel in range(16):
                    k_rough[head, start : start + 16, channel] = rough(k[head, start : start + 16, channel], 2)
            for t in range(len(ids)):
                v_rough[head, t] = rough(v[head, t], 4)
        exact, off = attention_output(q, k, v), attention_output(q, k_rough, v_rough)
        expected = float((off - exact).norm() / exact.norm())
        assert float(found["error"][layer, NINE.index((2, 4))]) == pytest.approx(expected, rel=1e-3)
    assert found["pairs"].tolist() == [list(pair) for pair in NINE]
    assert bool((found["error"][:, NINE.index((2, 2))] > found["error"][:, NINE.index((8, 8))]).all())


def test_refusals() -> None:
    """Both, neither enough, odd widths, wrong models."""
    with pytest.raises(DeclarationError, match="give pairs or mean_bits, not both"):
        KVTuner(pairs=((8, 8),), mean_bits=4.0)
    with pytest.raises(DeclarationError, match=r"mean_bits must be at least the smallest mean of choices, 2\.0"):
        KVTuner(mean_bits=1.5)
    with pytest.raises(DeclarationError, match=r"pairs\[0\]\[0\] must be 2, 4 or 8, got pairs\[0\]\[0\]=3"):
        KVTuner(pairs=((3, 4),))  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="residual must be a multiple of group"):
        KVTuner(group=32, residual=48)
    assert "2 pairs for 3 layers" in str(
        KVTuner(pairs=((4, 4), (2, 2)), group=8, residual=8).unsupported_reason(GEOMETRY)
    )
    assert "group must divide" in str(KVTuner().unsupported_reason(GEOMETRY))
    with pytest.raises(InfeasibleBudget, match="knows its bytes only with calibration 'kv-tuner'"):
        Driver(KVTuner(group=8, residual=8), GEOMETRY)


def test_only_a_choice_needs_the_calibration() -> None:
    """Pairs that are given need none."""
    assert KVTuner().needs().calibrations == ("kv-tuner",)
    assert KVTuner(pairs=((4, 2),)).needs().calibrations == ()
