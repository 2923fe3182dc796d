"""Calibration artefacts: statistics of a model's queries, tied by content to the model they were made for."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from designspace.errors import CalibrationError

if TYPE_CHECKING:
    from designspace.models.spec import ModelSpec

Q_STATISTICS = "q-stats"
FORMAT = 1


@dataclass(frozen=True)
class QueryStatistics:
    """Centre and mean modulus of each query head's pre-RoPE bands [triattention2026].

    mean: [L,H_q,D/2] complex64. modulus: [L,H_q,D/2] float32. `made_for` is the model's identity, `sha256` the artefact's.
    """

    mean: Tensor
    modulus: Tensor
    made_for: str
    n_tokens: int
    source: str
    sha256: str


def model_key(spec: ModelSpec) -> str:
    """Return the string that ties an artefact to a model: weights' content, or hub repository and revision."""
    identity = spec.identity()
    return str(identity.get("content") or f"{identity['hub']}@{identity['revision']}")


def artefact_path(spec: ModelSpec, name: str = Q_STATISTICS) -> Path:
    """Return where a model's artefact is looked for and written."""
    if spec.calibration:
        return Path(spec.calibration).expanduser() / f"{name}.safetensors"
    if spec.folder is not None:
        return spec.folder / "calibration" / f"{name}.safetensors"
    cache = Path(os.environ.get("DESIGNSPACE_CACHE", "~/.cache/designspace")).expanduser()
    return cache / "calibration" / hashlib.sha256(model_key(spec).encode()).hexdigest()[:16] / f"{name}.safetensors"


def artefact_hash(spec: ModelSpec, name: str = Q_STATISTICS) -> str | None:
    """Return the SHA-256 of a model's artefact, None where there is none."""
    path = artefact_path(spec, name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def save_statistics(path: Path, statistics: QueryStatistics) -> None:
    """Write the artefact atomically."""
    from safetensors.torch import save

    metadata = {
        "designspace": json.dumps(
            {
                "format": FORMAT,
                "artefact": Q_STATISTICS,
                "made_for": statistics.made_for,
                "n_tokens": statistics.n_tokens,
                "source": statistics.source,
            },
            sort_keys=True,
        )
    }
    tensors = {
        "q_mean_real": statistics.mean.real.contiguous(),
        "q_mean_imag": statistics.mean.imag.contiguous(),
        "q_abs_mean": statistics.modulus.contiguous(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(save(tensors, metadata))
    os.replace(temporary, path)


def load_statistics(spec: ModelSpec) -> QueryStatistics:
    """Return a model's query statistics.

    Raises:
        CalibrationError: missing, unreadable, or made for another model; the message names the command that makes it.
    """
    from safetensors import SafetensorError, safe_open

    path = artefact_path(spec)
    remedy = f"make it with: designspace calibrate {spec.name}"
    if not path.is_file():
        raise CalibrationError(f"model {spec.name!r} has no calibration artefact {Q_STATISTICS!r} at {path}; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()["designspace"])
            real, imag, modulus = (file.get_tensor(k) for k in ("q_mean_real", "q_mean_imag", "q_abs_mean"))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"{path} is no calibration artefact ({error}); {remedy}") from error
    if metadata["made_for"] != model_key(spec):
        raise CalibrationError(
            f"{path} was made for another model ({metadata['made_for'][:16]}…), "
            f"model {spec.name!r} is {model_key(spec)[:16]}…; {remedy}"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return QueryStatistics(
        torch.complex(real, imag), modulus, metadata["made_for"], metadata["n_tokens"], metadata["source"], sha256
    )
