"""Weights that transformers quantises while it loads them: what that needs, and what becomes of which layers.

`torchao-int8` holds the weights of each linear layer but the output embedding as 8-bit integers, with a float32 scale for each
of its outputs; activations keep the model's type, so no row depends on another one. On a device that has no kernel for that,
a layer's integers are turned into the model's type when it runs, one layer after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from designspace.errors import ModelError, require
from designspace.models.model_spec import ModelSpec

PACKAGES = {"torchao-int8": "torchao"}  # by kind; `designspace.errors` names the extra that brings it
_BYTES_PER_OUTPUT = 5  # a scale in float32, and a zero point of one byte


def check_quantization(spec: ModelSpec, config: Any) -> None:
    """Check that a model can be quantised here, if it is declared so; config: its configuration.

    Raises:
        MissingExtra: the package that does it is not installed.
        ModelError: its weights are quantised already.
    """
    if spec.quantization is None:
        return
    require(PACKAGES[spec.quantization])
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"the weights of model {spec.name!r} are quantised already, as its config.json says: leave out "
            f"quantization, got quantization={spec.quantization!r}"
        )


def loading_arguments(spec: ModelSpec) -> dict[str, Any]:
    """Return what `from_pretrained` is told beside the rest."""
    if spec.quantization is None:
        return {}
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    # Its default would change how everything in this process is compiled.
    return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig(set_inductor_config=False))}


def packed_layers(model: Any) -> list[nn.Linear]:
    """Return the linear layers of a model whose weights are quantised."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear) and is_packed(layer.weight)]


def is_packed(weight: Tensor) -> bool:
    """Return whether a weight holds integers, and shows itself as what these stand for."""
    return isinstance(getattr(weight, "qdata", None), Tensor)


def unpacked(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers that a quantised weight stands for, exact in float32; any other one is what it is."""
    if not is_packed(weight):
        return weight
    found: Tensor = weight.dequantize(dtype)  # type: ignore[call-arg]
    return found


def bytes_saved(model: Any, kind: str | None) -> int:
    """Return by how many bytes a model's weights are smaller quantised than they show themselves, skeleton or not."""
    if kind is None:
        return 0
    return sum(layer.weight.numel() * layer.weight.dtype.itemsize - _bytes(layer) for layer in _to_quantise(model))


def largest_copy(model: Any, kind: str | None) -> int:
    """Return the bytes of the largest layer's weights in the type in which it computes, 0 where none is quantised."""
    if kind is None:
        return 0
    return max((layer.weight.numel() * layer.weight.dtype.itemsize for layer in _to_quantise(model)), default=0)


def _bytes(layer: nn.Linear) -> int:
    return layer.weight.numel() + _BYTES_PER_OUTPUT * layer.weight.shape[0]


def _to_quantise(model: Any) -> Iterator[nn.Linear]:
    """Yield the layers that transformers quantises, by its own rule."""
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    left_out = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and should_convert_module(f"{name}.weight", left_out):
            yield layer
