"""DynamicKV against the released code: how many tokens each layer keeps, and which.

The release decides after every fourth layer and floors at three places; what is left over goes to the last layer. Ours
compares all layers once and rounds so that the total is kept. So its layers have up to two tokens per head less than
ours, and its last layer has the rest. It keeps a set for every query head.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import pad

from designspace.testing.views import view_of
from families.head_routing.dynamic_kv import DynamicKV
from families.scoring.selectors.top_k import TopK
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("dynamic_kv"))
def test_counts_and_kept_tokens(file: Path) -> None:
    """From given scores."""
    tensors, meta = read(file)
    p, counts = meta["parameters"], tensors["counts"].long()
    view = view_of(torch.zeros(p["layers"], 1, p["heads"], p["n"], 2), recent=p["window"], comparable_scores=True)
    scores = pad(tensors["scores"], (0, p["window"]))[:, None]
    shares = DynamicKV(ratio_max=p["ratio_max"]).allocate(view, scores, torch.tensor([p["capacity"]]))
    per_head = shares[:, 0].double().mean(dim=1) - p["window"]

    assert float(per_head.sum()) == int(counts.sum()) == p["base"] * p["layers"]
    less = (per_head - counts)[:-1]
    assert float(less.min()) >= 0 and float(less.max()) <= 2
    given = (counts + p["window"])[:, None, None].expand(-1, 1, p["heads"])
    assert torch.equal(TopK().select(view, scores, given)[:, 0], tensors["keep_mask"])
