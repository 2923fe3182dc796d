"""What the matrix products of one decode step take on this machine by themselves: the model's own weights, as many rows.

The products of large square matrices, which `designspace.engine.speed` takes the device's peak from, run faster than those of a
step: a weight is read from memory for each step, and a step has few rows. So the products are timed in the shapes and the type
that the step has them in, one weight after the other, so that none is still in a cache.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import nn


class Products(NamedTuple):
    """Seconds for all products of one step, and their floating-point operations."""

    seconds: float
    n_flop: int

    @property
    def flop_per_s(self) -> float:
        """The rate that was reached."""
        return self.n_flop / self.seconds


@torch.inference_mode()
def step_products(model: nn.Module, rows: int, n_passes: int = 5) -> Products:
    """Time `torch.mm` of `rows` inputs with every linear layer of a model, the output layer too; the best of a few passes."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    dtype, device = weights[0].dtype, weights[0].device
    inputs = {n: torch.ones(rows, n, dtype=dtype, device=device) for n in {weight.shape[1] for weight in weights}}
    taken = []
    for _ in range(n_passes):
        _wait(device)
        started_s = time.perf_counter()
        for weight in weights:
            torch.mm(inputs[weight.shape[1]], weight.T)
        _wait(device)
        taken.append(time.perf_counter() - started_s)
    return Products(min(taken), 2 * rows * sum(weight.numel() for weight in weights))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
