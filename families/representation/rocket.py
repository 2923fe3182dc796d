"""RocketKV's second stage: each query reads the pages that a few channels of it point to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Representation, SlotStore, StoreSpec
from families.representation.quest import QuestStore


@dataclass(frozen=True)
class Rocket(Representation):
    """Let each KV head read the pages that a few channels of its queries point to [behnam2025rocketkv].

    A page of `page` slots remembers the smallest and largest key of each channel, as in Quest. Of a query the `channels`
    components that are largest in absolute value, on average over the query heads of a group, are multiplied with the
    largest or smallest keys, by the sign of the group's sum. Divided by sqrt(D |q'|_1 / |q|_1), with q' the components that are
    used, this is an estimate of the page's logits. Their softmax over tokens, averaged over the group, ranks the pages, and the
    group attends exactly to the best `attended` // `page` ones. A head that holds at most `attended` tokens attends to all.

    It goes with a cadence that cuts the prompt alone, the first stage. Deviations: the last page is always read, so that a
    query sees its own token; whole pages are read, where the released code may take a part of the last one; page bounds are in
    the model's type, not in 8 bits.

    Attributes:
        page: number of slots per page; 4 by default, as released.
        attended: number of tokens that a query attends to; 64 by default, as released.
        channels: number of channels that pages are ranked by, all where a head has no more; 128 by default, as released,
            which is all of most models' heads.
    """

    kind: ClassVar[str] = "rocket"
    citation: ClassVar[str | None] = "behnam2025rocketkv"
    dense_layers: ClassVar[int] = 0
    least_pages: ClassVar[int] = 1

    page: Annotated[int, Ge(1)] = 4
    attended: Annotated[int, Ge(1)] = 64
    channels: Annotated[int, Ge(1)] = 128

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty full-precision store with page bounds."""
        return RocketStore(self, room)


class RocketStore(QuestStore):
    """Keys, values and page bounds as in Quest; all query heads of a group read the same pages."""

    def __init__(self, config: Rocket, room: StoreSpec) -> None:
        super().__init__(config, room)
        self.n_channels = min(config.channels, room.geometry.head_dim)

    def ranked(self, layer: int, query: Tensor, counts: Tensor) -> Tensor:
        """Return the mean probability of a page's tokens over the group, [B,H_kv,G,P] float32, the same for all of it."""
        grouped = query.float().unflatten(1, (self.lowest.shape[2], -1))  # [B,H,G,D]
        logits = self.estimates(layer, grouped)
        size = self._filled(counts)[:, :, None].float()  # [B,H,1,P]
        logits = logits.masked_fill(size == 0, -torch.inf)
        weight = (logits - logits.amax(dim=-1, keepdim=True)).exp()
        probability = weight / (weight * size).sum(dim=-1, keepdim=True)
        return probability.mean(dim=2, keepdim=True).expand_as(probability)

    def estimates(self, layer: int, grouped: Tensor) -> Tensor:
        """Return the estimated scaled logits [B,H_kv,G,P] of queries [B,H_kv,G,D] in each page."""
        size = grouped.abs()
        used = size.mean(dim=2, keepdim=True).topk(self.n_channels, dim=-1).indices  # [B,H,1,r]
        part = grouped.gather(-1, used.expand(*grouped.shape[:3], -1))
        upward = part.sum(dim=2, keepdim=True) > 0
        at = used.expand(-1, -1, self.lowest.shape[3], -1)  # [B,H,P,r]
        lowest, highest = (bound[layer].float().gather(-1, at) for bound in (self.lowest, self.highest))
        scale = (
            grouped.shape[-1] * part.abs().sum(dim=-1, keepdim=True) / size.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        ).sqrt()
        return part @ torch.where(upward, highest, lowest).mT / scale.clamp(min=1e-30)

    def read_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the pages that the last step read, and of one bound of `channels` channels per page."""
        read = (self._filled(counts) * self.was_read).sum(dim=-1)
        bounds = self._n_pages(counts).sum(dim=(0, 2)) * self.n_channels * self.lowest.element_size()
        return self.held_tokens_bytes(read) + bounds

    def held_tokens_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of as many keys and values [L,B,H_kv], without page bounds."""
        return super(QuestStore, self).held_bytes(counts)
