"""Quest against the released code: page bounds, page scores, and the pages of the kernel's path.

The release has two paths. Ours follows the kernel, which always reads the last page; the evaluation code does not, and in
these cases some of its heads drop the newest token.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import Geometry, Observed, SlotState, StoreSpec
from families.representation.quest import Quest, QuestStore
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("quest"))
def test_pages(file: Path) -> None:
    """One query of every head; the pages of a head are its group's business."""
    tensors, meta = read(file)
    p = meta["parameters"]
    n, heads, dim = p["n"], p["kv_heads"], p["head_dim"]
    geometry = Geometry(1, p["query_heads"], heads, dim, torch.ones(dim // 2))
    form = Quest(page=p["page"], attended=p["token_budget"], dense_layers=0)
    store = QuestStore(form, StoreSpec(geometry, 1, n, torch.float32, torch.device("cpu"), {}))
    counts, positions = torch.full((1, 1, heads), n), torch.arange(n).expand(1, 1, heads, n)
    keys, values = tensors["keys"][None, None], tensors["values"][None, None]
    store.load(torch.tensor([0]), keys, values, SlotState(counts, positions, Observed()))
    query = tensors["query"][None]
    score = store.bounds(0, query).flatten(1, 2)[0]
    visible = store.visible(0, query, SlotState(counts[0], positions[0], Observed()))

    assert visible is not None
    tolerance = meta["tolerance"]
    assert torch.equal(store.lowest[0, 0], tensors["page_min"]) and torch.equal(
        store.highest[0, 0], tensors["page_max"]
    )
    assert torch.allclose(score, tensors["page_score"], atol=tolerance["page_score_abs"], rtol=0)
    mask = visible.flatten(1, 2)[0]
    assert torch.equal(mask, tensors["kernel_mask"])
    assert not torch.equal(mask, tensors["mask"])
    # The evaluation code's mask is that of the highest scores alone.
    best = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(p["pages_read"]).indices, True)
    assert torch.equal(best.repeat_interleave(p["page"], dim=1)[:, :n], tensors["mask"])
