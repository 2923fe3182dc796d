"""The artefact "trim-gate" from a file: gates that somebody has trained, as TRIM-KV publishes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.errors import CalibrationError
from families.scoring.trim_kv import INPUTS, KEYS_VALUES

_NAME = re.compile(r"model\.layers\.(\d+)\.self_attn\.retention_gate\.(.+)")
_LINEAR = {"linear1.weight", "linear1.bias", "linear2.weight", "bias"}
_GATED = {"gate_proj.weight", "up_proj.weight", "down_proj.weight", "bias"}
_READS = {"rg": INPUTS, "rg2": KEYS_VALUES, "rg3": KEYS_VALUES}  # by the names of the release's configuration


def imported_retention_gate(file: Path, geometry: Geometry, hidden_size: int) -> dict[str, Tensor]:
    """Return the weights that scoring `trim-kv` reads, [L,...] float32, from a checkpoint of the release.

    The release keeps gates in `trimkv_weights.pth`, a state dict with
    `model.layers.N.self_attn.retention_gate.` + `linear1.weight` [I,n], `linear1.bias` [I], `linear2.weight` [H_kv,I] and
    `bias` [H_kv] for each layer, or `gate_proj.weight`, `up_proj.weight` [I,n], `down_proj.weight` [H_kv,I] and `bias`. A
    safetensors file with the same names will do too. n is the hidden size where the gate reads the layer's input (the
    published checkpoints), and 2 H_kv D where it reads keys and values. Where the two are equal, `retention_gate` in the
    `config.json` beside the file says which.

    Raises:
        CalibrationError: the file cannot be read, holds other weights, or those of another model's gates.
    """
    layers = _by_layer(file, _read(file), geometry)
    names = set(layers[0])
    if names not in (_LINEAR, _GATED) or any(set(layer) != names for layer in layers):
        raise CalibrationError(f"{file}: each layer must have {_words(_LINEAR)}, or {_words(_GATED)}")
    reads = _what_it_reads(file, geometry, hidden_size, layers[0])
    width = hidden_size if reads == INPUTS else 2 * geometry.n_kv_heads * geometry.head_dim
    for number, layer in enumerate(layers):
        _check_shapes(f"{file}: layer {number}", layer, geometry.n_kv_heads, width)
    try:
        stacked = {name: torch.stack([layer[name].float() for layer in layers]) for name in sorted(names)}
    except RuntimeError:
        raise CalibrationError(f"{file}: the gates of all layers must be of one width") from None
    return {f"{reads}.{name}": tensor for name, tensor in stacked.items()}


def _read(file: Path) -> Mapping[str, Any]:
    """Return the tensors of a file by name. No code in it is run."""
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever they like over a damaged file
        message = (str(error).splitlines() or ["damaged"])[0]
        raise CalibrationError(f"{file}: cannot be read: {message}") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CalibrationError(f"{file}: must hold tensors by name")
    return found


def _by_layer(file: Path, tensors: Mapping[str, Tensor], geometry: Geometry) -> list[dict[str, Tensor]]:
    """Return the weights of each layer's gate."""
    layers: list[dict[str, Tensor]] = [{} for _ in range(geometry.n_layers)]
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:  # a checkpoint may also change the model, and then it is another model
            raise CalibrationError(f"{file}: must hold the weights of retention gates alone, got {name}")
        if int(match[1]) >= geometry.n_layers:
            raise CalibrationError(f"{file}: the model has {geometry.n_layers} layers, got {name}")
        if tensor.dim() not in (1, 2):
            raise CalibrationError(f"{file}: weights must be vectors and matrices, got {name} {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise CalibrationError(f"{file}: numbers must be finite: {name}")
        layers[int(match[1])][match[2]] = tensor
    return layers


def _what_it_reads(file: Path, geometry: Geometry, hidden_size: int, layer: Mapping[str, Tensor]) -> str:
    """Return what gates read: by the configuration beside the file, by their form, or by how much they read."""
    config = file.parent / "config.json"
    said = _config(config) if config.is_file() else {}
    activation = said.get("hidden_act", "silu")
    if activation != "silu":
        raise CalibrationError(f"{config}: gates must have the activation 'silu', got hidden_act={activation!r}")
    if "gate_proj.weight" in layer:
        return KEYS_VALUES
    if (kind := said.get("retention_gate")) is not None:
        if kind not in _READS:
            raise CalibrationError(f"{config}: retention_gate must be one of {', '.join(_READS)}, got {kind!r}")
        return _READS[kind]
    n_read, of_pairs = layer["linear1.weight"].shape[-1], 2 * geometry.n_kv_heads * geometry.head_dim
    if n_read == hidden_size == of_pairs:
        raise CalibrationError(
            f"{file}: gates that read {n_read} numbers may read the layer's input or keys and values: put the checkpoint's "
            "config.json beside it, which says so as retention_gate"
        )
    return KEYS_VALUES if n_read == of_pairs else INPUTS


def _config(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file}: cannot be read: {error}") from error
    if not isinstance(found, Mapping):
        raise CalibrationError(f"{file}: must be a configuration")
    return found


def _check_shapes(where: str, layer: Mapping[str, Tensor], n_heads: int, n_read: int) -> None:
    inner = "down_proj.weight" if "down_proj.weight" in layer else "linear2.weight"
    width = layer[inner].shape[-1]
    wanted = {
        "bias": (n_heads,), inner: (n_heads, width), "linear1.bias": (width,), "linear1.weight": (width, n_read),
        "gate_proj.weight": (width, n_read), "up_proj.weight": (width, n_read),
    }  # fmt: skip
    for name, tensor in layer.items():
        if tuple(tensor.shape) != wanted[name]:
            raise CalibrationError(f"{where}: {name} must have shape {wanted[name]}, got {tuple(tensor.shape)}")


def _words(names: set[str]) -> str:
    return ", ".join(sorted(names))
