"""MiniKV against the released code: kept counts per layer, kept tokens, exact tails, and what is read back.

The release floors the share of every layer, so the layers' counts do not add up to the budget, and a layer that holds the
whole prompt hands nothing on; ours rounds so that they add up, and hands on. It holds keys and values of every query head.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import WindowShare
from designspace.testing.views import view_of
from families.head_routing.pyramid import Pyramid, pyramid_shares
from families.representation.mini_kv import MiniKV, MiniKVStore
from families.scoring.h2o import H2O
from families.scoring.selectors.top_k import TopK
from tests.families.representation.drive import Driver, geometry_of
from tests.golden.cases import collection_files, kept_slots, read


@pytest.mark.parametrize("file", collection_files("minikv", "shares_*.safetensors"))
def test_counts_per_layer(file: Path) -> None:
    """The released counts are ours rounded down; ours, rounded so that they add up, are less than one token away."""
    tensors, meta = read(file)
    start, n_compared = 0, 0
    for n_layers, prompt, heavy, recent in meta["parameters"]["combos"]:
        rows = slice(start, start + n_layers)
        start += n_layers
        of_layer, kept = tensors["heavy_ratio_of_layer"][rows], tensors["kept_count"][rows]
        assert torch.allclose(pyramid_shares(heavy, n_layers, 7.0), of_layer, atol=1e-12, rtol=0)
        target, n_window = round(prompt * (heavy + recent)), int(prompt * recent)
        if target != pytest.approx(prompt * (heavy + recent)) or bool((kept == prompt).any()):
            continue  # a budget of a part of a token, or a layer that hands on
        assert WindowShare(recent / (heavy + recent)).tokens(target) == n_window
        real = pyramid_shares(target - n_window, n_layers, 7.0) + n_window
        assert torch.equal((real + 1e-9).floor().int(), kept)
        view = view_of(torch.zeros(n_layers, 1, 1, prompt, 2), recent=n_window)
        ours = Pyramid(7.0).allocate(view, torch.zeros(view.positions.shape), torch.tensor([target]))[:, 0, 0]
        assert int(ours.sum()) == target * n_layers
        assert float((ours - real).abs().max()) < 1
        n_compared += 1
    assert n_compared >= 3


@pytest.mark.parametrize("file", collection_files("minikv", "select_*.safetensors"))
def test_kept_tokens(file: Path) -> None:
    """Heavy hitters and the window, from given sums of attention."""
    tensors, meta = read(file)
    p = meta["parameters"]
    mass, layers, layer = tensors["attention_sum"], p["layers"], p["layer"]
    budget = round(p["prompt"] * (p["heavy_ratio"] + p["recent_ratio"]))
    share = WindowShare(p["recent_ratio"] / (p["heavy_ratio"] + p["recent_ratio"]))
    view = view_of(
        torch.zeros(layers, 1, p["heads"], p["prompt"], 2),
        accumulated=mass.expand(layers, 1, -1, -1),
        recent=share.tokens(budget),
        target=budget,
    )
    n_kept = tensors["kept"].shape[1]
    keep = TopK().select(view, H2O().score(view), torch.full(view.counts.shape, n_kept))

    assert torch.equal(kept_slots(keep[layer, 0]), tensors["kept"])
    routing = Pyramid(beta=7.0 if p["pyramid"] else 1.0)
    ours = routing.allocate(view, torch.zeros(view.positions.shape), view.target)[layer, 0]
    assert set(ours.tolist()) <= {n_kept, n_kept + 1}


@pytest.mark.parametrize("file", collection_files("minikv", "tails_*.safetensors"))
def test_exact_tails_and_what_is_read(file: Path) -> None:
    """How many tokens are exact after the prompt and after every step, and the cache as it is read in the end."""
    tensors, meta = read(file)
    p = meta["parameters"]
    config, steps = MiniKV(bits=p["bits"], group=p["group"], residual=p["residual"]), p["decode_steps"]
    for case, n in enumerate(tensors["prompt_lengths"].tolist()):
        shape = (p["heads"], n + steps, p["head_dim"])
        given = [tensors.get(f"{name}_{n}", torch.randn(shape)) for name in ("keys", "values")]
        keys, values = (x[None, None] for x in given)
        d = Driver(config, geometry_of(1, p["heads"], p["head_dim"], group=1), capacity=n + steps)
        d.load(keys[:, :, :, :n], values[:, :, :, :n])
        store, tails = d.store, []
        assert isinstance(store, MiniKVStore)
        for position in range(n, n + steps + 1):
            coded = store.n_coded(d.counts, (slice(None), slice(None)))
            tails.append([int((d.counts - x).unique()) for x in coded])
            if position < n + steps:
                d.append(keys[:, :, :, position], values[:, :, :, position], position)

        assert tails == tensors["exact_tails"][case].tolist()
        for name, read_back in zip(("keys", "values"), d.read(), strict=True):
            if f"{name}_read_{n}" in tensors:
                expected = tensors[f"{name}_read_{n}"]
                assert torch.allclose(read_back[0, 0], expected, atol=meta["tolerance"]["read_abs"], rtol=0)
