"""The artefact "fast-kvzip" from a file: gates that somebody has trained, as Fast KVzip publishes them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from designspace.axes import Geometry
from designspace.errors import CalibrationError
from families.calibrations.gate_file import by_layer, stacked

_NAME = r"(\d+)\.(.+)"


def imported_fast_kvzip(file: Path, geometry: Geometry, hidden_size: int) -> dict[str, Tensor]:
    """Return the weights that scoring `fast-kvzip` reads, [L,...] float32.

    The release keeps gates as a pickle, `q4_dim16_sink16.pt` and the like, whose entry `module` is a list with one state dict
    per layer. It is not read here, as a pickle may run code. Who trusts it saves its tensors as safetensors under the names
    `N.` + `q_proj.weight`, `q_proj.bias`, `k_proj.weight`, `q_norm.weight`, `k_norm.weight`, `k_base` and `b`, N being the
    layer, with the shapes that they have (`families.scoring.fast_kvzip.sink_attention`).

    Raises:
        CalibrationError: the file cannot be read, holds other weights, or those of another model's gates.
    """
    layers, heads, group = by_layer(file, _NAME, geometry), geometry.n_kv_heads, geometry.group
    if "k_base" not in layers[0] or layers[0]["k_base"].dim() != 4:
        raise CalibrationError(f"{file}: layer 0 must have sinks k_base [{heads},1,S,d]")
    n_sinks, dim = layers[0]["k_base"].shape[2:]
    shapes = {
        "q_proj.weight": (heads * group * dim, hidden_size),
        "q_proj.bias": (heads * group * dim,),
        "k_proj.weight": (heads * dim, hidden_size),
        "q_norm.weight": (dim,),
        "k_norm.weight": (dim,),
        "k_base": (heads, 1, n_sinks, dim),
        "b": (heads, 1, group),
    }
    return stacked(file, layers, shapes)
