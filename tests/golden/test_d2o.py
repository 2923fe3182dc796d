"""D2O against the released code: kept sets, thresholds, and what the kept slots hold after each event.

The release decides once for all heads: it averages the largest cosines of the heads' evicted tokens by their rank, though
heads evict different tokens. Ours decides in every head. So its thresholds are the mean of ours, and its decisions are
given to ours here. In both, a merged token enters with its cosine as weight, into a plain mean. The release's first event
is the first decode step, with a budget from the prompt's length; when events come and how much they keep is another axis here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.testing.views import view_of
from families.representation.d2o import D2O, _mean
from families.representation.merging import nearest_kept
from families.scoring.h2o import H2O
from families.scoring.selectors.top_k import TopK
from tests.golden.cases import collection_files, kept_slots, read


@pytest.mark.parametrize("file", collection_files("d2o"))
def test_events(file: Path) -> None:
    """From event to event with the keys and values that the one before left."""
    tensors, meta = read(file)
    p, tolerance = meta["parameters"], meta["tolerance"]
    n_heads, n = p["heads"], p["prompt"]
    held = torch.arange(n).expand(n_heads, -1)
    keys, values = (tensors[name][:, :n] for name in ("keys", "values"))
    mass, memory = torch.zeros(n_heads, tensors["keys"].shape[1]), None
    for event in range(p["events"]):
        now = n + event
        held = torch.cat([held, torch.full((n_heads, 1), now)], dim=1)
        keys = torch.cat([keys, tensors["keys"][:, now : now + 1]], dim=1)
        values = torch.cat([values, tensors["values"][:, now : now + 1]], dim=1)
        mass = mass + tensors[f"attention_sum_{event}"]
        view = view_of(
            keys[None, None],
            values[None, None],
            positions=held[None, None],
            accumulated=mass.gather(1, held)[None, None],
            sinks=p["sinks"],
            recent=p["recent"],
            memory=memory,
        )
        keep = TopK().select(view, H2O().score(view), torch.full((1, 1, n_heads), p["heavy"] + p["recent"]))
        assert torch.equal(
            torch.zeros_like(mass).scatter(1, held, keep[0, 0].float()) > 0, tensors[f"keep_mask_{event}"]
        )

        near = nearest_kept(view, keep)
        memory = D2O(decay=p["alpha"])._thresholds(view, near)
        threshold = float(tensors["thresholds"][event])
        assert float(memory[..., 0].mean()) == pytest.approx(threshold, abs=2 * tolerance["threshold_abs"])
        evicted = kept_slots(~keep[0, 0]).long()  # [H, pruned]
        merged = near.cosine[0, 0].gather(1, evicted).mean(dim=0) >= threshold
        assert torch.equal(merged, tensors[f"merged_{event}"])

        joins = torch.zeros_like(keep[0, 0]).scatter(1, evicted, merged.expand(n_heads, -1))
        target = near.target.where(joins, -1)
        slots = kept_slots(keep[0, 0]).long()
        after = (_mean(x, near, target)[0, 0] for x in (view.keys, view.values))
        keys, values = (x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1])) for x in after)
        held = held.gather(1, slots)
        assert torch.allclose(keys, tensors[f"keys_after_{event}"], atol=tolerance["keys_abs"], rtol=0)
        assert torch.allclose(values, tensors[f"values_after_{event}"], atol=tolerance["values_abs"], rtol=0)
