"""A safetensors file with the weights of one network per layer, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.errors import CalibrationError


def by_layer(file: Path, pattern: str, geometry: Geometry) -> list[dict[str, Tensor]]:
    """Return the weights of each layer by their own names, float32.

    pattern: a regular expression for whole names; its first group is the layer's number, its second the weight's own name.

    Raises:
        CalibrationError: the file cannot be read, holds other names, other layers, or numbers that are not finite.
    """
    from safetensors.torch import load_file

    if file.suffix != ".safetensors":
        raise CalibrationError(f"{file}: must be a safetensors file: pickles are not read")
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises whatever it likes over a damaged file
        raise CalibrationError(f"{file}: cannot be read: {(str(error).splitlines() or ['damaged'])[0]}") from error
    layers: list[dict[str, Tensor]] = [{} for _ in range(geometry.n_layers)]
    for name, tensor in tensors.items():
        match = re.fullmatch(pattern, name)
        if match is None:  # a checkpoint may also change the model, and then it is another model
            raise CalibrationError(f"{file}: must hold the weights of the networks alone, got {name}")
        if int(match[1]) >= geometry.n_layers:
            raise CalibrationError(f"{file}: the model has {geometry.n_layers} layers, got {name}")
        if not tensor.isfinite().all():
            raise CalibrationError(f"{file}: numbers must be finite: {name}")
        layers[int(match[1])][match[2]] = tensor.float()
    return layers


def stacked(file: Path, layers: list[dict[str, Tensor]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the weights of all layers, [L,...], after a check that each layer has just these, in these shapes.

    Raises:
        CalibrationError: a layer has others.
    """
    for number, layer in enumerate(layers):
        if set(layer) != set(shapes):
            raise CalibrationError(f"{file}: layer {number} must have {_words(shapes)}, got {_words(layer) or 'none'}")
        for name, shape in shapes.items():
            if tuple(layer[name].shape) != shape:
                raise CalibrationError(
                    f"{file}: layer {number}: {name} must have shape {shape}, got {tuple(layer[name].shape)}"
                )
    return {name: torch.stack([layer[name] for layer in layers]) for name in shapes}


def configuration_beside(file: Path) -> Mapping[str, Any]:
    """Return what the `config.json` beside a file says; nothing where there is none.

    Raises:
        CalibrationError: it cannot be read.
    """
    config = file.parent / "config.json"
    if not config.is_file():
        return {}
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{config}: cannot be read: {error}") from error
    if not isinstance(found, Mapping):
        raise CalibrationError(f"{config}: must be a configuration")
    return found


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
