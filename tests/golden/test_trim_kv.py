"""TRIM-KV against the released code: what is left of every token, and which tokens each event keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.trim_kv import RetentionGate, TrimKV
from tests.golden.cases import collection_files, kept_slots, read

FILES = collection_files("trim_kv")


def event(gates: Tensor, positions: Tensor, seen: int, p: dict[str, Any]) -> View:
    """Return the event after `seen` tokens of heads that hold these positions [L,H,N], -1 where a slot is free."""
    opened = gates.gather(-1, positions.clamp(min=0)).masked_fill(positions < 0, 0)
    return view_of(
        torch.zeros(gates.shape[0], 1, *positions.shape[1:], 2), positions=positions[:, None], next_position=seen,
        tracked={RetentionGate(): opened[:, None, ..., None]}, recent=p["sliding_window"], target=p["memory"],
    )  # fmt: skip


def by_position(view: View, scores: Tensor, n: int) -> Tensor:
    """Return scores [L,H,n] at the tokens' positions, as the release's data has them: -1e30 where a token is gone."""
    held = scores.masked_fill(view.protected, 1e30).masked_fill(~view.valid, -1e30)[:, 0]
    table = torch.full((*held.shape[:2], n + 1), -1e30)
    at = torch.where(view.valid[:, 0], view.positions[:, 0], n)
    return table.scatter(-1, at, held)[..., :n]


@pytest.mark.parametrize("file", FILES)
def test_what_the_release_computes(file: Path) -> None:
    """The same scores and the same kept tokens at every event; one budget per head, or one for all heads."""
    tensors, meta = read(file)
    p, gates = meta["parameters"], tensors["log_gates"]
    scoring = TrimKV(look_ahead=p["look_ahead"], recent=p["sliding_window"])
    held = torch.zeros(gates.shape, dtype=torch.bool)
    before = 0
    for number, seen in enumerate(tensors["event_lengths"].tolist()):
        held[..., before:seen] = True
        before = seen
        wanted = tensors[f"score_{number}"]
        n = wanted.shape[-1]
        positions = torch.arange(n).where(held[..., :n], -1)
        view = event(gates[..., :n], positions, seen, p)
        scores = scoring.score(view)
        torch.testing.assert_close(by_position(view, scores, n), wanted, rtol=1e-6, atol=p["look_ahead"] > 1 and 1e-4)
        if f"kept_{number}" in tensors:
            shares = torch.full(view.counts.shape, p["memory"])
            keep = scoring.selector.select(view, scores, shares)[:, 0]
            assert torch.equal(kept_slots(keep), tensors[f"kept_{number}"])
        else:  # shared by all layers and heads
            flat = scores.masked_fill(~view.valid, -torch.inf).flatten()
            best = flat.topk(p["memory"] * gates.shape[0] * gates.shape[1]).indices
            keep = torch.zeros_like(flat, dtype=torch.bool).scatter(0, best, True).view(view.valid.shape)[:, 0]
            assert torch.equal(keep, tensors[f"keep_mask_{number}"][..., :n])
        held = torch.zeros_like(held)
        held[..., :n] = keep
