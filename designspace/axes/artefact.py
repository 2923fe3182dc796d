"""A calibration artefact: what was measured on a model before a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Q_STATISTICS = "q-stats"


@dataclass(frozen=True)
class Artefact:
    """What one calibration measured.

    Attributes:
        made_for: the model's identity.
        n_tokens: that it was measured on.
        source: name of the text.
        sha256: of the file's content.
        text: SHA-256 of the token ids that were read, "" where that is not known.
        dtype: of the weights that it was measured with, "" likewise.
    """

    name: str
    tensors: Mapping[str, Tensor]
    made_for: str = ""
    n_tokens: int = 0
    source: str = ""
    sha256: str = ""
    text: str = ""
    dtype: str = ""

    def __getitem__(self, tensor: str) -> Tensor:
        """Return one tensor by name."""
        return self.tensors[tensor]

    def on(self, device: torch.device) -> Artefact:
        """Return the same with its tensors on a device."""
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})


def centres(statistics: Artefact) -> tuple[Tensor, Tensor]:
    """Return the mean bands [L,H_q,D/2] complex64 and the mean moduli [L,H_q,D/2] float32 of an artefact."""
    return torch.complex(statistics["q_mean_real"], statistics["q_mean_imag"]), statistics["q_abs_mean"]
