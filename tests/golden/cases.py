"""Finds golden cases: outputs of reference implementations, one folder per method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.conftest import GOLDEN


def golden_files(method: str, pattern: str = "*.safetensors") -> list[Any]:
    """Return the files of a method's folder as pytest parameters; one skipped parameter where the folder is missing."""
    files = sorted((GOLDEN / method).glob(pattern)) if GOLDEN.is_dir() else []
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no golden data at {GOLDEN / method}"))]
    return [pytest.param(file, id=file.stem) for file in files]


def collection_files(method: str, pattern: str = "*.safetensors") -> list[Any]:
    """Return the same of a method that only the whole collection has: nothing of it comes with the repository."""
    found = golden_files(method, pattern)
    if found[0].values[0] is None:
        mark = pytest.mark.skip(reason=f"{method!r} is compared with the whole collection alone, which is not here")
        return [pytest.param(None, marks=mark)]
    return found


def read(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a case's tensors and its metadata."""
    with safe_open(file, "pt") as handle:
        return {name: handle.get_tensor(name) for name in handle.keys()}, json.loads(handle.metadata()["golden"])  # noqa: SIM118


def kept_slots(keep: torch.Tensor) -> torch.Tensor:
    """Return the kept slots [..., b] of a mask [..., N] with the same count everywhere."""
    return keep.nonzero()[:, -1].view(*keep.shape[:-1], -1).int()
