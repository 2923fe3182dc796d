"""DuoAttention's gate against kvpress's on-the-fly gate, from the mean queries and keys of each text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import Artefact, Geometry
from designspace.axes.rotary import as_bands
from designspace.testing.views import view_of
from families.calibrations.duo_calibration import Means, gate_of, last_row_logits
from families.head_routing.duo import ARTEFACT, Duo
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("duo_gate"))
def test_gates(file: Path) -> None:
    """Text by text, their average, and which heads are streaming heads."""
    tensors, meta = read(file)
    p = meta["parameters"]
    n_heads = p["query_heads"], p["kv_heads"]
    geometry = Geometry(p["layers"], *n_heads, p["head_dim"], tensors["inv_freq"])
    nothing = torch.zeros(p["layers"], 1, 0, dtype=torch.float64)
    gates = []
    for queries, keys in zip(tensors["mean_queries"], tensors["mean_keys"], strict=True):
        q, k = (
            Means(as_bands(x).to(torch.complex128), nothing.expand(-1, n, -1))
            for x, n in zip((queries, keys), n_heads, strict=True)
        )
        logits = last_row_logits(q, k, geometry, p["q_len"]) / p["head_dim"] ** 0.5
        gates.append(gate_of(logits, geometry.group).float())
    gate = torch.stack(gates).mean(dim=0)

    assert torch.allclose(torch.stack(gates), tensors["gate_per_text"], atol=meta["tolerance"]["gate_abs"], rtol=0)
    assert torch.allclose(gate, tensors["gate"], atol=meta["tolerance"]["gate_abs"], rtol=0)
    view = view_of(
        torch.zeros(p["layers"], 1, p["kv_heads"], 4, 2), artefacts={ARTEFACT: Artefact(ARTEFACT, {"gate": gate})}
    )
    retrieves = Duo(retrieval=1 - p["head_compression_ratio"]).retrieves(view)
    assert torch.equal(~retrieves, tensors["streaming_mask"])
