"""Gates: numbers of a token that a trained network gives it when it comes, and that stay with its slot.

A strategy asks for one in `Needs.gates`; the cache allocates its state, fills it when a token arrives, moves it with the
slots, forgets it with the sample, and counts its bytes. Heads may keep different tokens, so what a network says of a
token cannot be computed at an event: by then some of what it reads is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from designspace.axes.artefact import Artefact


class Arrival(NamedTuple):
    """What is there when tokens come to one layer of the model.

    layer: its number in the model. inputs: [B,T,hidden], the residual stream as the layer's projections read it, after the
    norm before them. keys, values: [B,H_kv,T,D] as the layer writes them, keys after RoPE.
    """

    layer: int
    inputs: Tensor
    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Gate(ABC):
    """What a trained network says of a token at its arrival. A frozen dataclass, so that two strategies share it.

    With `of_previous` the network speaks of the token before the one that comes; of the newest token nothing is known yet,
    and its number is +inf.

    Attributes:
        artefact: the calibration that holds the network's weights, by layer of the model. `Needs` asks for it.
    """

    channels: ClassVar[int] = 1
    dtype: ClassVar[torch.dtype] = torch.float32
    of_previous: ClassVar[bool] = False

    artefact: str

    @abstractmethod
    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return one number for each KV head and token that comes, [B,H_kv,T] float32. It depends on that token alone."""
