"""Quest: every token is kept, and each query reads only the pages that may matter to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import pad

from designspace.axes import Representation, SlotState, SlotStore, StoreSpec
from designspace.axes.full_store import FullStore
from designspace.axes.ranking import rank_descending


@dataclass(frozen=True)
class Quest(Representation):
    """Keep every token, and let each query read only the pages that may matter to it [tang2024quest].

    A page holds `page` tokens and remembers the smallest and largest key of each channel; sum_d max(q_d min_d, q_d
    max_d) is at least the logit of every key in it. Each query head attends exactly to max(`least_pages`, `attended` //
    `page`) pages: the last one, full or not, and of the others those with the highest bounds. So does the released
    kernel; the released evaluation code lets the bound decide on the last page too, so that a query may not see its own
    token. A head that holds at most `attended` tokens attends to all of them. The prompt is attended in full.

    Quest saves memory traffic, not memory: it holds more bytes than the full cache, by its page bounds. Plot it over
    bytes read, never over bytes held. A KV head reads the union of its query heads' pages. It goes with the cadence
    `never`. Under a cadence that evicts, a page is `page` neighbouring slots, and its bounds are computed again at
    every event.

    Attributes:
        page: number of tokens per page; 16 by default.
        attended: number of tokens that a query attends to; 1024 by default.
        dense_layers: number of first layers that attend to everything, among those that own a cache; 2 by default.
        least_pages: smallest number of pages read, the last one included, however small `attended` is; 3 by default, as
            in the evaluation code.
    """

    kind: ClassVar[str] = "quest"
    version: ClassVar[int] = 2
    citation: ClassVar[str | None] = "tang2024quest"

    page: Annotated[int, Ge(1)] = 16
    attended: Annotated[int, Ge(1)] = 1024
    dense_layers: Annotated[int, Ge(0)] = 2
    least_pages: Annotated[int, Ge(1)] = 3

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty full-precision store with page bounds."""
        return QuestStore(self, room)


class PageChoice(Protocol):
    """How many tokens a page has, how many of them a query reads, and in which layers it reads all."""

    @property
    def page(self) -> int:
        """Tokens per page."""

    @property
    def attended(self) -> int:
        """Tokens that a query attends to."""

    @property
    def dense_layers(self) -> int:
        """First layers that attend to everything, among those that own a cache."""

    @property
    def least_pages(self) -> int:
        """Smallest number of pages read, the last one included."""


class QuestStore(FullStore):
    """Keys and values, and page bounds: lowest, highest [L,B,H_kv,P,D] in the model's type, P = C / page rounded up.

    was_read: [L,B,H_kv,P] bool, the pages that any query head has read since the layer's last token was written.
    """

    bytes_follow_counts: ClassVar[bool] = False  # what is read depends on the pages chosen

    def __init__(self, config: PageChoice, room: StoreSpec) -> None:
        super().__init__(room)
        self.config, self.capacity = config, room.capacity
        geometry = room.geometry
        pages = (geometry.n_layers, room.rows, geometry.n_kv_heads, -(-room.capacity // config.page))
        self.lowest, self.highest = (
            torch.zeros(*pages, geometry.head_dim, dtype=room.dtype, device=room.device) for _ in range(2)
        )
        self.was_read = torch.zeros(pages, dtype=torch.bool, device=room.device)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token [B,H_kv,D] per (row, head) into its slot and widen the bounds of its page."""
        super().write(layer, slot, keys, values, held)
        index = (slot // self.config.page)[..., None, None].expand(*slot.shape, 1, keys.shape[-1])
        first = (slot % self.config.page == 0)[..., None]
        for bounds, wider in ((self.lowest[layer], torch.minimum), (self.highest[layer], torch.maximum)):
            bound = bounds.gather(2, index)[:, :, 0]
            bounds.scatter_(2, index, torch.where(first, keys, wider(bound, keys))[:, :, None])
        self.was_read[layer].zero_()

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows [E] by keys and values [L,E,H_kv,C,D] and compute the bounds of their pages."""
        super().load(rows, keys, values, held)
        page, missing = self.config.page, self.was_read.shape[-1] * self.config.page - self.capacity
        slot = torch.arange(self.capacity, device=keys.device)
        free = pad(slot >= held.counts[..., None], (0, missing), value=True).unflatten(-1, (-1, page))
        paged = pad(keys, (0, 0, 0, missing)).unflatten(-2, (-1, page))  # [L,E,H,P,page,D]
        empty = free.all(dim=-1)[..., None]
        lowest = paged.masked_fill(free[..., None], torch.inf).amin(dim=-2)
        highest = paged.masked_fill(free[..., None], -torch.inf).amax(dim=-2)
        self.lowest[:, rows], self.highest[:, rows] = lowest.masked_fill(empty, 0.0), highest.masked_fill(empty, 0.0)

    def visible(self, layer: int, query: Tensor, held: SlotState) -> Tensor | None:
        """Return the slots of the chosen pages, [B,H_kv,G,C] bool, or None in dense layers."""
        if layer < self.config.dense_layers:
            return None
        chosen = self._chosen(layer, query, held.counts)
        self.was_read[layer] |= chosen.any(dim=2)
        return chosen.repeat_interleave(self.config.page, dim=-1)[..., : self.capacity]

    def _chosen(self, layer: int, query: Tensor, counts: Tensor) -> Tensor:
        """Return which pages [B,H_kv,G,P] each query head reads; counts: [B,H_kv]."""
        page, attended = self.config.page, self.config.attended
        number = torch.arange(self.was_read.shape[-1], device=counts.device)
        n_pages = self._n_pages(counts)[:, :, None, None]  # [B,H,1,1]
        bound = self.ranked(layer, query, counts).masked_fill(number == n_pages - 1, torch.inf)
        filled = (number < n_pages).expand_as(bound)
        best = rank_descending(bound, filled) < max(self.config.least_pages, attended // page)
        return filled & (best | (counts <= attended)[:, :, None, None])

    def ranked(self, layer: int, query: Tensor, counts: Tensor) -> Tensor:
        """Return what pages are ranked by, [B,H_kv,G,P] float32: their bounds; counts: [B,H_kv]."""
        return self.bounds(layer, query)

    def bounds(self, layer: int, query: Tensor) -> Tensor:
        """Return the upper bounds [B,H_kv,G,P] float32 of queries [B,H_q,D] on the logits in each page, unscaled."""
        grouped = query.float().unflatten(1, (self.lowest.shape[2], -1))  # [B,H,G,D]
        lowest, highest = self.lowest[layer].float(), self.highest[layer].float()
        return grouped.clamp(min=0) @ highest.mT + grouped.clamp(max=0) @ lowest.mT

    def _filled(self, counts: Tensor) -> Tensor:
        """Return how many slots of each page are filled [...,P]; counts: [...]."""
        start = torch.arange(self.was_read.shape[-1], device=counts.device) * self.config.page
        return (counts.long()[..., None] - start).clamp(0, self.config.page)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: 2 D itemsize bytes per token, and as much per page."""
        return super().held_bytes(counts) + super().held_bytes(self._n_pages(counts))

    def read_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the pages that the last step read, and of the page bounds.

        Dense layers read no bounds.
        """
        dense = torch.arange(counts.shape[0], device=counts.device)[:, None, None] < self.config.dense_layers
        paged = (self._filled(counts) * self.was_read).sum(dim=-1)
        n_pages = self._n_pages(counts).masked_fill(dense, 0)
        return super().held_bytes(torch.where(dense, counts.long(), paged)) + super().held_bytes(n_pages)

    def _n_pages(self, counts: Tensor) -> Tensor:
        return -(-counts.long() // self.config.page)

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))
