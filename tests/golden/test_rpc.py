"""RPC against the released code: when it cuts and to what size, which queries score, the scores and the kept sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from designspace.axes import Budget
from designspace.testing.views import view_of
from families.cadence.growing import Growing
from families.scoring.rpc import RPC
from tests.golden.cases import collection_files, kept_slots, read

FILES = collection_files("rpc")


@pytest.mark.parametrize("file", FILES)
def test_when_and_to_what_size(file: Path) -> None:
    """The schedule falls due when the release cuts, and leaves as many tokens."""
    tensors, meta = read(file)
    p, lengths = meta["parameters"], tensors["event_lengths"].tolist()
    cadence = Growing(period=p["P"], ratio=p["c"], window=p["R"])
    row, size, found = cadence.schedule(Budget(1)).row_schedule(), p["prompt"], []
    for step in range(lengths[-1] - p["prompt"] + 1):
        size += step > 0
        if row.due(step, size, None):
            size = row.target()
            row.cut()
            found.append((p["prompt"] + step, size))

    assert found == list(zip(lengths, tensors["sizes_after"].tolist(), strict=True))


@pytest.mark.parametrize("file", FILES)
def test_every_event(file: Path) -> None:
    """Along the text: scores by position, and which positions are kept."""
    tensors, meta = read(file)
    p, atol = meta["parameters"], meta["tolerance"]["scores_abs"]
    scoring = RPC(heads=p["aggregation"], kernel=p["kernel"], recent=p["R"])
    n_heads, length, n_queries = p["kv_heads"], 0, scoring.needs().queries
    held = torch.zeros(n_heads, 0, dtype=torch.int64)
    for event, now in enumerate(tensors["event_lengths"].tolist()):
        held = torch.cat([held, torch.arange(length, now).expand(n_heads, -1)], dim=-1)
        length = now
        keys = tensors["keys"].gather(2, held[None, ..., None].expand(1, *held.shape, p["head_dim"]))
        view = view_of(
            keys[None], queries=tensors["queries"][None, :, :, now - n_queries : now], positions=held[None, None],
            next_position=now, recent=p["R"], n_prompt_tokens=p["prompt"],
        )  # fmt: skip
        view = replace(view, context=replace(view.context, protects_prompt=True))
        wanted = tensors["selector_positions"][event].tolist()
        assert [*view.query_positions[0].tolist(), now - 1] == wanted
        scores, expected = scoring.score(view), tensors[f"score_{event}"].expand(n_heads, -1)
        by_position = torch.full(expected.shape, -1.0).scatter(-1, held, scores[0, 0])
        there = expected >= 0
        torch.testing.assert_close(by_position[there], expected[there], atol=atol, rtol=0)

        shares = torch.full((1, 1, n_heads), int(tensors["sizes_after"][event]))
        held = held.gather(-1, kept_slots(scoring.selector.select(view, scores, shares)[0, 0]).long())
        assert torch.equal(held.int(), tensors[f"kept_{event}"])
