"""SkipKV against the released code: penalties of sentences, scores and the kept set of every event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.cache.sentence_log import summed
from designspace.testing.views import view_of
from families.scoring.skip_kv import SkipKV, repeated
from tests.golden.cases import collection_files, kept_slots, read

FILES = collection_files("skip_kv")


def literal_redundancy(view: View, threshold: float) -> Tensor:
    """R-KV's redundancy with the release's choice of slot 0 in rows of the matrix without a neighbour above the threshold."""
    unit = view.keys / view.keys.norm(dim=-1, keepdim=True)
    cosine = (unit @ unit.mT).contiguous()
    cosine.diagonal(dim1=-2, dim2=-1).zero_()
    newest = torch.where(cosine > threshold, torch.arange(cosine.shape[-1]), 0).amax(dim=-1, keepdim=True)
    return cosine.scatter(-1, newest, 0.0).mean(dim=-2).softmax(dim=-1)


def view_at(length: int, held: Tensor, tensors: dict[str, Tensor], p: dict[str, Any]) -> View:
    """Return the event of the text's first `length` tokens; held: positions [H_kv,N]."""
    keys = tensors["keys"].gather(2, held[None, ..., None].expand(1, *held.shape, p["head_dim"]))
    ends = [end for end in tensors["sentences"][:, 1].tolist() if end < length]
    view = view_of(
        keys[None], queries=tensors["queries"][None, :, :, length - p["window"] : length], positions=held[None, None],
        next_position=length, recent=p["window"],
    )  # fmt: skip
    view.observed.sentence_ends, view.observed.sentence_sums = summed(tensors["hidden"][:length], ends)
    return view


@pytest.mark.parametrize("file", FILES)
def test_every_event(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the text: what is subtracted for each sentence, the scores, and the positions that are kept."""
    monkeypatch.setattr("families.scoring.r_kv.column_similarity", literal_redundancy)
    tensors, meta = read(file)
    p, tolerance = meta["parameters"], meta["tolerance"]
    scoring = SkipKV(lam=p["lambda"], alike=p["similarity_threshold"], kernel=p["kernel"], recent=p["window"])
    n_heads, length = p["kv_heads"], 0
    held = torch.zeros(n_heads, 0, dtype=torch.int64)
    for event, now in enumerate(tensors["event_lengths"].tolist()):
        held = torch.cat([held, torch.arange(length, now).expand(n_heads, -1)], dim=-1)
        length = now
        view = view_at(now, held, tensors, p)

        (sentences,) = view.sentences
        wanted = tensors[f"penalty_{event}"]
        found = repeated(sentences.states, scoring.alike)
        torch.testing.assert_close(found, wanted[: len(found)], atol=tolerance["penalty_abs"], rtol=0)
        assert not wanted[len(found) :].any()

        scores = scoring.score(view)
        wanted = tensors[f"score_{event}"].gather(-1, held)
        candidates = wanted > -1e29
        torch.testing.assert_close(scores[0, 0][candidates], wanted[candidates], atol=tolerance["scores_abs"], rtol=0)

        keep = scoring.selector.select(view, scores, torch.full((1, 1, n_heads), p["budget"]))
        held = held.gather(-1, kept_slots(keep[0, 0]).long())
        assert torch.equal(held.int(), tensors[f"kept_{event}"])
