"""The artefact "kvzap" from a file: networks that somebody has trained, as KVzap publishes them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from designspace.axes import Geometry
from designspace.errors import CalibrationError
from families.calibrations.gate_file import by_layer, configuration_beside, stacked

_NAME = r"layers\.(\d+)\.(.+)"


def imported_kvzap(file: Path, geometry: Geometry, hidden_size: int) -> dict[str, Tensor]:
    """Return the weights that scoring `kvzap` reads, [L,...] float32, from a checkpoint of the release.

    The release keeps them in `model.safetensors`: for each layer `layers.N.weight` [H_kv,hidden] and `layers.N.bias` [H_kv] in
    the linear form, or `layers.N.0.weight` [I,hidden], `layers.N.0.bias` [I], `layers.N.2.weight` [H_kv,I] and
    `layers.N.2.bias` [H_kv] with a hidden layer. The names follow from the module that kvpress saves.

    Raises:
        CalibrationError: the file cannot be read, holds other weights, or those of another model's networks.
    """
    kind = configuration_beside(file).get("model_type", "kvzap")
    if kind != "kvzap":
        raise CalibrationError(f"{file.parent / 'config.json'}: model_type must be 'kvzap', got {kind!r}")
    layers, n_heads = by_layer(file, _NAME, geometry), geometry.n_kv_heads
    if "0.weight" not in layers[0]:
        return stacked(file, layers, {"weight": (n_heads, hidden_size), "bias": (n_heads,)})
    width = layers[0]["0.weight"].shape[0]
    shapes = {"0.weight": (width, hidden_size), "0.bias": (width,), "2.weight": (n_heads, width), "2.bias": (n_heads,)}
    return stacked(file, layers, shapes)
