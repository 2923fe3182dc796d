"""The artefact "dms-gate" from a file: decisions that somebody has trained, as DMS' code saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from families.calibrations.gate_file import by_layer, configuration_beside, stacked

_NAME = r"model\.layers\.(\d+)\.self_attn\.(dms_proj_alpha(?:_norm)?\.(?:weight|bias))"
_MAP, _BIAS, _NORM = "dms_proj_alpha.weight", "dms_proj_alpha.bias", "dms_proj_alpha_norm.weight"
_SCALE, _OFFSET = 100.0, 5.0  # the release's defaults


def imported_dms(file: Path, loaded: LoadedModel) -> dict[str, Tensor]:
    """Return "weight" [L,H_kv,hidden] and "bias" [L,H_kv] float32 that scoring `dms` reads.

    file: the tensors `model.layers.N.self_attn.` + `dms_proj_alpha.weight` [H_kv,hidden], `dms_proj_alpha.bias` [H_kv] where
    there is one, and `dms_proj_alpha_norm.weight` [hidden] of a retrofitted model whose configuration says
    `dms_separate_alpha`, in a safetensors file of their own: a model's folder with tensors that transformers does not know is
    refused. `config.json` beside the file may say `dms_alpha_scale`, `dms_initial_alpha_offset` and `dms_alpha_per` ("head",
    or "layer": all heads go by the first).
    No such checkpoint was at hand: the names are those of the release's modules.

    The release's own norm reads the residual stream, as the layer's norm does; the two differ in their weights alone, by
    whose quotient the map is multiplied here.

    Raises:
        CalibrationError: the file cannot be read, holds other weights, or those of another model; the layers' norms are
            no plain root mean squares, or one of their weights is 0.
    """
    geometry, said = loaded.geometry, configuration_beside(file)
    hidden, heads = loaded.model.config.hidden_size, geometry.n_kv_heads
    layers = by_layer(file, _NAME, geometry)
    shapes = {_MAP: (heads, hidden), _NORM: (hidden,)} | ({_BIAS: (heads,)} if _BIAS in layers[0] else {})
    found = stacked(file, layers, shapes)
    quotient = found[_NORM] / torch.stack([_norm_weight(file, loaded, n) for n in range(geometry.n_layers)])
    scale, offset = float(said.get("dms_alpha_scale", _SCALE)), float(said.get("dms_initial_alpha_offset", _OFFSET))
    weight = scale * found[_MAP] * quotient[:, None]
    bias = scale * found[_BIAS] - offset if _BIAS in found else torch.full(weight.shape[:2], -offset)
    if (per := said.get("dms_alpha_per", "head")) not in ("head", "layer"):
        raise CalibrationError(f"{file.parent / 'config.json'}: dms_alpha_per must be 'head' or 'layer', got {per!r}")
    if per == "layer":
        weight, bias = weight[:, :1].expand_as(weight), bias[:, :1].expand_as(bias)
    return {"weight": weight.contiguous(), "bias": bias.contiguous()}


def _norm_weight(file: Path, loaded: LoadedModel, layer: int) -> Tensor:
    """Return the weights [hidden] of the norm before a layer's attention, of which the network's own is a variation."""
    error = loaded.attention_inputs_error()
    if error is not None:
        raise CalibrationError(f"{file}: {error}")
    norm = loaded.model.model.layers[layer].input_layernorm
    weight = norm.weight.detach().float().cpu()
    x = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(0))
    wanted = x * x.square().mean(dim=-1, keepdim=True).rsqrt() * weight
    with torch.no_grad():
        seen = norm(x.to(loaded.device, loaded.dtype)).float().cpu()
    if not torch.allclose(seen, wanted, atol=0.05, rtol=0.05) or not weight.all():
        raise CalibrationError(
            f"{file}: layer {layer}: the norm before attention must be a root mean square with weights, none of them 0"
        )
    return weight
