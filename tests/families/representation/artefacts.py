"""Made-up calibrations of the right shapes."""

from __future__ import annotations

import itertools

import torch

from designspace.axes import Artefact, Geometry


def artefact(name: str, geometry: Geometry, seed: int = 0) -> Artefact:
    """Return one by name."""
    generator = torch.Generator().manual_seed(seed)
    layers, heads, dim = geometry.n_layers, geometry.n_kv_heads, geometry.head_dim
    if name == "v-pca":
        basis = torch.linalg.qr(torch.randn(layers, heads, dim, dim, generator=generator)).Q
        tensors = {"mean": torch.randn(layers, heads, dim, generator=generator) / 4, "basis": basis}
    elif name == "kv-tuner":
        pairs = torch.tensor(list(itertools.product((8, 4, 2), (8, 4, 2))))
        tensors = {"error": torch.rand(layers, 9, generator=generator), "pairs": pairs}
    else:
        centre = torch.randn(layers, 1, heads, dim, generator=generator) / 4
        half = 1.5 + torch.rand(layers, 1, heads, dim, generator=generator)
        half = torch.cat([2 * half, half], dim=1)  # without outliers, with some
        tensors = {"key_low": centre - half, "key_high": centre + half}
        for bits, of in itertools.product((2, 3, 4), ("key", "value")):
            book = torch.rand(layers, 2, 2**bits, generator=generator) * 1.9 - 0.95
            tensors[f"{of}_book_{bits}"] = book.sort().values
    return Artefact(name, tensors)


def artefacts(geometry: Geometry) -> dict[str, Artefact]:
    """Return all of them."""
    return {name: artefact(name, geometry) for name in ("v-pca", "kv-tuner", "kvquant")}
