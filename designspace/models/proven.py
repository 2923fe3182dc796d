"""What trying a model out has found, kept by its content: a big model is tried out once per machine, not once per run."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from designspace.canonical import canonical_json
from designspace.models.model_spec import ModelSpec
from designspace.models.proof import PROOF_VERSION, Proof
from designspace.models.quantization import PACKAGES
from designspace.version import __version__


def kept_proof(spec: ModelSpec, device: str) -> Proof | None:
    """Return what was found on a model of this content, on such a device, by these versions; None: nothing yet."""
    try:
        found: dict[str, Any] = json.loads(_file(spec, device).read_text(encoding="utf-8"))
        return Proof(**{**found, **{name: tuple(found[name]) for name in ("rotations", "frequencies")}})
    except (OSError, ValueError, KeyError, TypeError, PackageNotFoundError):
        # Absent, or not what this version writes: try the model out, which says what package it lacks.
        return None


def keep_proof(spec: ModelSpec, device: str, proof: Proof) -> None:
    """Keep what was found; a folder that cannot be written is no reason to stop."""
    file = _file(spec, device)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(proof)), encoding="utf-8")
        os.replace(temporary, file)
    except OSError:
        return


def _file(spec: ModelSpec, device: str) -> Path:
    identity = {
        "model": spec.identity(),
        "device": torch.device(device).type,
        "proof": PROOF_VERSION,
        "versions": {name: version(name) for name in ("torch", "transformers", *_packages(spec))},
        "designspace": __version__,
        "kernels": os.environ.get("DESIGNSPACE_KERNELS", ""),
    }
    cache = Path(os.environ.get("DESIGNSPACE_CACHE", "~/.cache/designspace")).expanduser()
    return cache / "proofs" / f"{hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]}.json"


def _packages(spec: ModelSpec) -> list[str]:
    """Return whose kernels a model runs on beside torch's own."""
    return [] if spec.quantization is None else [PACKAGES[spec.quantization]]
