"""G-KV against the released code: what is remembered, the similarity, the ranking and the kept set of every event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.g_kv import GKV
from families.scoring.key_similarity import row_similarity
from tests.golden.cases import collection_files, kept_slots, read

FILES = collection_files("g_kv")


def scoring_of(p: dict[str, Any]) -> GKV:
    """Return the scoring of a case."""
    return GKV(
        lam=1.0 if p["lambda"] is None else p["lambda"],
        alpha=p["alpha"],
        smooth=p["smooth"],
        normalise="max" if p["normalise"] else "none",
        similarity="columns" if p["similarity"] == "raw" else "rows",
        kernel=p["pool_max_kernel"] or 1,
        recent=p["window"],
    )


def view_at(length: int, held: Tensor, state: Tensor, tensors: dict[str, Tensor], scoring: GKV) -> View:
    """Return the event of the text's first `length` tokens; held: positions [H_kv,N], state: by position [H_kv,T]."""
    (tracker,) = scoring.needs().trackers
    keys = tensors["keys"].gather(2, held[None, ..., None].expand(1, *held.shape, tensors["keys"].shape[-1]))
    return view_of(
        keys[None], queries=tensors["queries"][None, :, :, length - scoring.recent : length], positions=held[None, None],
        next_position=length, recent=scoring.recent, tracked={tracker: state.gather(-1, held)[None, None, ..., None]},
    )  # fmt: skip


def by_position(x: Tensor, held: Tensor, like: Tensor) -> Tensor:
    """Return numbers of slots [1,1,H_kv,N] by position [H_kv,T], zero elsewhere."""
    return torch.zeros_like(like).scatter(-1, held, x[0, 0])


@pytest.mark.parametrize("file", FILES)
def test_every_event(file: Path) -> None:
    """Along the text: global scores, the similarity before its division, final scores and kept positions."""
    tensors, meta = read(file)
    p, atol = meta["parameters"], meta["tolerance"]["scores_abs"]
    scoring = scoring_of(p)
    (tracker,) = scoring.needs().trackers
    n_heads, length = p["kv_heads"], 0
    held = torch.zeros(n_heads, 0, dtype=torch.int64)
    state = torch.zeros(n_heads, tensors["keys"].shape[2])
    if "initial_score" in tensors:  # its H2O starts from the prompt's sums
        state[:, : p["prompt"]] = tensors["initial_score"]
    for event, now in enumerate(tensors["event_lengths"].tolist()):
        held = torch.cat([held, torch.arange(length, now).expand(n_heads, -1)], dim=-1)
        length = now
        if f"kept_{event}" not in tensors:
            continue
        view, like = view_at(now, held, state, tensors, scoring), tensors[f"final_score_{event}"]
        candidates = like > -1e29
        if (
            p["similarity"] == "raw"
        ):  # there the release spares slot 0 for want of another, which changes its score alone
            candidates = candidates.scatter(-1, held[:, :1], False)
        found = by_position(scoring.score(view), held, like)
        torch.testing.assert_close(found[candidates], like[candidates], atol=atol, rtol=0)
        if p["similarity"] == "triton":
            alike = by_position(row_similarity(view, 0.5), held, like)
            there = tensors[f"similarity_{event}"] >= 0
            torch.testing.assert_close(alike[there], tensors[f"similarity_{event}"][there], atol=atol, rtol=0)

        keep = scoring.selector.select(view, scoring.score(view), torch.full((1, 1, n_heads), p["budget"]))
        kept = held.gather(-1, kept_slots(keep[0, 0]).long())
        assert torch.equal(kept.int(), tensors[f"kept_{event}"])

        state = by_position(tracker.at_event(view)[..., 0], held, like)
        remembered = tensors[f"cached_score_{event}"]
        torch.testing.assert_close(state[remembered >= 0], remembered[remembered >= 0], atol=atol, rtol=0)
        held, state = kept, state * torch.zeros_like(state).scatter(-1, kept, 1.0)
