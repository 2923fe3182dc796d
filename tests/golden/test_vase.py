"""VaSE against the released code: magnitudes, the slots kept for them, and the probabilities of the first draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.selectors.sampling import CERTAIN, Sampling
from families.scoring.selectors.top_k import TopK
from families.scoring.vase import _MAGNITUDES, Vase
from tests.golden.cases import collection_files, kept_slots, read

MAGNITUDE = {
    "attn": "range",
    "range_attn": "range",
    "range_sink_sample_attn": "range",
    "var_sink_sample_attn": "variance",
}
FILES = [file for file in collection_files("vase") if "evict_large" not in str(file.values[0])]


def case(file: Path) -> tuple[Vase, View, dict[str, Tensor], dict[str, Any]]:
    """Return the scoring of a case, its event, and what the release made of it."""
    tensors, meta = read(file)
    p = meta["parameters"]
    scoring = Vase(
        selector=Sampling() if p["draws_without_replacement"] else TopK(),
        large=p["n_large"] / p["budget"],
        magnitude=MAGNITUDE[p["mode"]],  # type: ignore[arg-type]
        kernel=max(p["smooth_avgpool_kernel"], 1),
        temperature=p["temperature"],
        sinks=p["sinks"],
        recent=p["recent"],
    )
    view = view_of(
        tensors["keys"][None], tensors["values"][None], queries=tensors["queries_window"][None], target=p["budget"],
        sinks=p["sinks"], recent=p["recent"],
    )  # fmt: skip
    return scoring, view, tensors, meta


@pytest.mark.parametrize("file", FILES)
def test_what_the_release_computes(file: Path) -> None:
    """Deterministic modes keep the same slots; the others draw from the same probabilities."""
    scoring, view, tensors, meta = case(file)
    p, tolerance = meta["parameters"], meta["tolerance"]
    n_candidates = p["n"] - p["recent"]
    scores = scoring.score(view)[0, 0]
    if "value_magnitude" in tensors:
        found = _MAGNITUDES[scoring.magnitude](view.values)[0, 0, :, p["sinks"] : n_candidates]
        wanted = tensors["value_magnitude"][:, p["sinks"] :]
        torch.testing.assert_close(found, wanted, atol=tolerance["magnitude_abs"], rtol=0)
    if "large_slots" in tensors:
        certain = scores == CERTAIN
        certain[:, : p["sinks"]] = True
        large = [sorted(slots.tolist()) for slots in tensors["large_slots"]]
        assert [torch.where(head)[0].tolist() for head in certain] == large
    if "sample_probabilities" in tensors:
        weights = scores[:, :n_candidates].masked_fill(certain[:, :n_candidates], 0.0)
        probabilities = weights / weights.sum(dim=-1, keepdim=True)
        torch.testing.assert_close(
            probabilities, tensors["sample_probabilities"], atol=tolerance["probabilities_abs"], rtol=0
        )
    if "kept" in tensors:
        shares = torch.full((1, 1, p["kv_heads"]), p["budget"])
        keep = scoring.selector.select(view, scores[None, None], shares)
        assert torch.equal(kept_slots(keep[0, 0]), tensors["kept"].sort(dim=-1).values)
