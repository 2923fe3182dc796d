"""The artefact "duo-gate" from a file: gates that somebody has trained, as DuoAttention and RLKV publish theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.errors import CalibrationError


def imported_gate(file: Path, geometry: Geometry) -> dict[str, Tensor]:
    """Return "gate" [L,H_kv] float32 from a text file with one line for each layer and one number for each KV head.

    Numbers are separated by blanks, tabs or commas; the larger, the more of the past a head needs. This is the form of
    DuoAttention's `full_attention_heads.tsv`.

    Raises:
        CalibrationError: the file cannot be read, or is not a table of the model's layers and heads; starts with
            `file:line` where one line is at fault.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: cannot be read: {error}") from error
    if len(lines) != geometry.n_layers:
        raise CalibrationError(f"{file}: must have a line for each of {geometry.n_layers} layers, got {len(lines)}")
    return {"gate": torch.tensor([_row(file, n, line, geometry.n_kv_heads) for n, line in enumerate(lines, start=1)])}


def _row(file: Path, number: int, line: str, n_heads: int) -> list[float]:
    try:
        row = [float(word) for word in line.replace(",", " ").split()]
    except ValueError as error:
        raise CalibrationError(f"{file}:{number}: must hold numbers alone: {error}") from None
    if len(row) != n_heads:
        raise CalibrationError(f"{file}:{number}: must have a number for each of {n_heads} KV heads, got {len(row)}")
    if not torch.tensor(row).isfinite().all():
        raise CalibrationError(f"{file}:{number}: numbers must be finite")
    return row
