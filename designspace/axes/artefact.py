"""A calibration artefact: what was measured on a model before a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Artefact:
    """What one calibration measured. `made_for` is the model's identity, `sha256` the file's content."""

    name: str
    tensors: Mapping[str, Tensor]
    made_for: str = ""
    n_tokens: int = 0
    source: str = ""
    sha256: str = ""

    def __getitem__(self, tensor: str) -> Tensor:
        """Return one tensor by name."""
        return self.tensors[tensor]
