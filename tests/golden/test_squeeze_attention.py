"""SqueezeAttention against the released code: cosines, the group that is squeezed, the layers' windows.

The release floors every window; ours rounds so that they add up to the budget. Its clustering has random seeds; ours is the
exact optimum.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from designspace.axes import Geometry, Needs
from designspace.cache.layer_call import LayerCall
from designspace.cache.prefill_pass import PrefillPass
from designspace.testing.views import view_of
from families.head_routing.squeeze import Squeeze, top_group
from tests.golden.cases import collection_files, read


@pytest.mark.parametrize("file", collection_files("squeeze_attention"))
def test_cosines_and_windows(file: Path) -> None:
    """From hidden states around attention to windows of the prompt's length."""
    tensors, meta = read(file)
    p, before = meta["parameters"], tensors["hidden_before"]
    n_layers, n, hidden = before.shape
    seen = PrefillPass(Needs(layer_cosine=True), Geometry(n_layers, 1, 1, hidden, torch.ones(1)), n)
    for layer in range(n_layers):  # one head whose output is what attention adds
        output = tensors["hidden_after"][layer] - before[layer]
        seen.attend(LayerCall(layer, 1.0), *torch.zeros(3, 1, 1, n, hidden))
        seen._outputs[layer] = output[None, :, None]
    projections = torch.eye(hidden).expand(n_layers, 1, hidden, hidden)
    seen.record_layer_cosines(tuple(before[:, None]), projections)
    cosine = seen.prompt().observed.layer_cosine

    assert cosine is not None
    assert torch.allclose(cosine[:, 0], tensors["cosine"], atol=meta["tolerance"]["cosine_abs"], rtol=0)
    assert torch.equal(top_group(cosine.T)[0], tensors["layer_class"] == 3)
    # The budget is no whole number of tokens in one case, so a hundred times as many are allocated.
    length, many = p["prompt_length"], 100
    view = view_of(torch.zeros(n_layers, 1, 1, length, 2), layer_cosine=cosine)
    target = torch.tensor([round(p["initial_ratio"] * length * many)])
    shares = Squeeze(p=p["class3_ratio"] / p["initial_ratio"]).allocate(view, torch.zeros(view.positions.shape), target)
    assert int(shares.sum()) == int(target) * n_layers
    assert torch.equal((shares[:, 0, 0] // many).int(), tensors["window"])
