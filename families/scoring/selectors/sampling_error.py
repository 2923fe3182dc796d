"""The error certificate of an event that draws its slots: what the draw is expected to do to the newest query's attention."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import View

_SMALLEST = 1e-12  # of a probability or a norm


def sampling_error(view: View, inclusion: Tensor) -> Tensor:
    """Return the expected relative error of attention's output after an event, root mean square over heads, [E] float32.

    With weights 1/pi on the kept slots, attention is Hajek's estimate of the output o = sum p_i v_i of the newest query. To
    first order its variance is sum (1 - pi_i) / pi_i p_i^2 |v_i - o|^2, as if slots were drawn independently, which is more
    than that of a draw of fixed size. Slots that had no chance (pi = 0) add their bias at its largest. Divided by |o|.

    inclusion: [L,E,H_kv,C] float64, the probabilities pi. Reads `view.last`, the attention p of the newest query.
    """
    n_layers, n_rows, n_heads, n_slots = inclusion.shape
    p = view.last.view(n_layers, n_rows, n_heads, view.geometry.group, n_slots).double()
    p = p.masked_fill(~view.valid[:, :, :, None], 0.0)
    p = p / p.sum(dim=-1, keepdim=True).clamp(min=_SMALLEST)
    values = view.values.double().masked_fill(~view.valid[..., None], 0.0)
    output = torch.einsum("lehgc,lehcd->lehgd", p, values)
    squared = output.square().sum(dim=-1, keepdim=True)  # [L,E,H_kv,G,1]
    across = torch.einsum("lehgd,lehcd->lehgc", output, values)
    distance = (values.square().sum(dim=-1)[:, :, :, None] - 2 * across + squared).clamp(min=0.0)
    pi = inclusion[:, :, :, None]
    drawn = ((1 - pi) / pi.clamp(min=_SMALLEST)).masked_fill(pi <= 0, 0.0)
    variance = (drawn * p.square() * distance).sum(dim=-1)
    bias = (p * distance.sqrt()).masked_fill(pi > 0, 0.0).sum(dim=-1)
    relative = (variance + bias.square()) / squared[..., 0].clamp(min=_SMALLEST)
    return relative.mean(dim=(0, 2, 3)).sqrt().float()
