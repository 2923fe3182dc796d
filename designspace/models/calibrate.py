"""Make the calibration artefact of a model: centres of its pre-RoPE queries over calibration texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from designspace.errors import CalibrationError
from designspace.geometry import Geometry
from designspace.models.calibration import QueryStatistics, model_key
from designspace.models.loading import LoadedModel, load_model
from designspace.models.spec import ModelSpec, bundled_names
from designspace.rotary import as_bands, unrotate

MAX_TOKENS = 32768  # of one text, as in the released calibration [triattention2026]


class CalibrationPass:
    """Plain causal attention that sums each query head's pre-RoPE bands and their moduli over positions."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
        self.total = torch.zeros(shape, dtype=torch.complex128)
        self.modulus = torch.zeros(shape, dtype=torch.float64)
        self.n_tokens = 0

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Take in the layer's queries [1,H_q,T,D] at positions 0 … T-1 and attend."""
        positions = torch.arange(query.shape[2], device=query.device)
        bands = unrotate(as_bands(query[0].float()), positions, self.geometry)  # [H_q,T,D/2]
        self.total[layer] += bands.sum(dim=1).to(torch.complex128).cpu()
        self.modulus[layer] += bands.abs().sum(dim=1).double().cpu()
        mask = None
        if window is not None:
            distance = positions[:, None] - positions[None]
            mask = (distance >= 0) & (distance < window)
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)


@torch.inference_mode()
def query_statistics(
    loaded: LoadedModel, texts: Iterable[tuple[int, ...]], *, made_for: str, source: str
) -> QueryStatistics:
    """Return centre and mean modulus of every query head over token sequences.

    Raises:
        CalibrationError: no text, or a model that rotates only part of its head dimension.
    """
    geometry = loaded.geometry
    if geometry.inv_freq.numel() * 2 != geometry.head_dim:
        raise CalibrationError(
            f"query statistics need rotary embeddings over the whole head dimension of {geometry.head_dim}, "
            f"this model rotates {geometry.inv_freq.numel() * 2}"
        )
    calibration = CalibrationPass(geometry)
    for ids in texts:
        tokens = torch.tensor([ids[:MAX_TOKENS]], device=loaded.device)
        loaded.model(input_ids=tokens, use_cache=False, logits_to_keep=1, slots=calibration)
        calibration.n_tokens += tokens.shape[1]
    if calibration.n_tokens == 0:
        raise CalibrationError("calibration needs at least one text")
    mean = (calibration.total / calibration.n_tokens).to(torch.complex64)
    modulus = (calibration.modulus / calibration.n_tokens).float()
    return QueryStatistics(mean, modulus, made_for, calibration.n_tokens, source, sha256="")


def calibrate(
    spec: ModelSpec, *, n_problems: int = 64, text_path: str | None = None, device: str = "cpu"
) -> QueryStatistics:
    """Return the statistics of a model over a plain text file, or for a bundled model over calibration problems.

    Raises:
        CalibrationError: no text file for a model that is not bundled, or an unreadable one.
    """
    loaded = load_model(spec, device)
    if text_path is not None:
        file = Path(text_path).expanduser()
        if not file.is_file():
            raise CalibrationError(f"calibration text not found: {text_path}")
        texts = [tuple(loaded.tokenizer(file.read_text(encoding="utf-8"))["input_ids"])]
        return query_statistics(loaded, texts, made_for=model_key(spec), source=file.name)
    if spec.name not in bundled_names():
        raise CalibrationError(f"model {spec.name!r} is not bundled, so it needs a text to calibrate on: --text FILE")
    from designspace.tasks.chain_arithmetic import chain_arithmetic

    problems = chain_arithmetic("calibration", n_problems)
    texts = [loaded.encode(f"{problem.prompt} {problem.solution}") for problem in problems]
    return query_statistics(
        loaded, texts, made_for=model_key(spec), source=f"chain-arithmetic/calibration[{n_problems}]"
    )
