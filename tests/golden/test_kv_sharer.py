"""KVSharer's calibration against the released one: distances, the order of pairs, the search, the similarity.

Where a text is shorter than the first one, the release leaves it out of the sums but not out of their divisor; ours leaves
it out of both, so distances differ by that factor, and the order does not.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from families.calibrations.kv_sharer_calibration import accepted, distances, mean_cache, mean_cosine, ranked_pairs
from families.head_routing.kv_sharer import owners_of
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("kv_sharer"))
def test_distances_and_their_order(file: Path) -> None:
    """Of caches that are averaged over texts, position by position."""
    tensors, meta = read(file)
    both = torch.stack([tensors["keys"], tensors["values"]], dim=1)  # [L,2,texts,H,N,D]
    lengths = tensors["text_lengths"].tolist()
    mean = mean_cache([both[:, :, text, :, :n] for text, n in enumerate(lengths)])
    found = distances(mean)

    counted_too = lengths.count(lengths[0]) / len(lengths)
    earlier = torch.ones_like(found, dtype=torch.bool).tril(-1)
    wrong = (found * counted_too - tensors["distance"])[earlier].abs().max()
    assert float(wrong) <= meta["tolerance"]["distance_abs"]
    assert ranked_pairs(found) == [tuple(pair) for pair in tensors["order"].tolist()]


@pytest.mark.parametrize("file", collection_files("kv_sharer"))
def test_the_search(file: Path) -> None:
    """With given similarities: which pairs are tried, which are accepted, and whose cache each layer reads."""
    tensors, meta = read(file)
    p = meta["parameters"]
    given = iter(tensors["similarity_of_call"].tolist())
    calls = 0

    def similarity(owners: tuple[int, ...]) -> float:
        nonlocal calls
        calls += 1
        return float(next(given))

    pairs = [(int(a), int(b)) for a, b in tensors["order"].tolist()]
    found = list(islice(accepted(pairs, p["layers"], similarity, p["threshold"]), p["share_layers"]))

    assert calls == int(tensors["calls_used"])
    assert owners_of([pair for pair, _ in found], p["layers"]) == tuple(tensors["layer_map"].tolist())


@pytest.mark.parametrize("file", collection_files("kv_sharer"))
def test_the_similarity(file: Path) -> None:
    """Each text's hidden states as one vector."""
    tensors, meta = read(file)
    found = mean_cosine(list(tensors["hidden_a"]), list(tensors["hidden_b"]))

    assert abs(found - float(tensors["hidden_similarity"])) <= meta["tolerance"]["hidden_similarity_abs"]
