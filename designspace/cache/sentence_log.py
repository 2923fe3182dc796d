"""The sentences of every row's text: running sums of hidden states that outlive the tokens' slots.

Shapes: B rows, E rows of one event, S sentences that there is room for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MOST_SPARE = 64  # sentences that there is room for beyond those that are needed: room is made by copying all


class SentenceLog:
    """Where the sentences of `rows` texts end, and the sum of each one's hidden states; the last one is still open.

    ends: [B,S] int64, position of a sentence's last token, -1 where there is none yet. sums: [B,S,hidden] float32. n: [B]
    int64, complete sentences, and so the place of the open one.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        """Begin without room: texts have few sentences next to their tokens, and only they say how many."""
        self.ends = torch.full((rows, 0), -1, device=device)
        self.sums = torch.zeros(rows, 0, 0, device=device)
        self.n = torch.zeros(rows, dtype=torch.int64, device=device)
        self._row = torch.arange(rows, device=device)

    def load(self, rows: Tensor, ends: Tensor, sums: Tensor) -> None:
        """Replace the sentences of rows [E]; ends: [E,S'], sums: [E,S',hidden], with the open sentence after the last end."""
        self._grow(ends.shape[1], sums.shape[2])
        self.ends[rows], self.sums[rows] = -1, 0.0
        self.ends[rows, : ends.shape[1]], self.sums[rows, : sums.shape[1]] = ends, sums
        self.n[rows] = (ends >= 0).sum(dim=1)

    def make_room(self, n_steps: int) -> None:
        """Make room for as many sentences as so many steps may end."""
        self._grow(int(self.n.amax()) + n_steps + 1, self.sums.shape[2])

    def record(self, hidden: Tensor, ended: Tensor, positions: Tensor, active: Tensor) -> None:
        """Add one token per row: its hidden state [B,hidden], whether it ends a sentence [B], its position [B].

        active: [B] bool, the rows that have a new token. There must be room.
        """
        ended = ended & active
        self.sums[self._row, self.n] += hidden.float().masked_fill(~active[:, None], 0.0)
        self.ends[self._row, self.n] = torch.where(ended, positions, -1)
        self.n += ended

    def held_bytes(self) -> Tensor:
        """Return [B] int64: bytes of every row's sums, the open one's included, and ends."""
        return (self.n + 1) * self.sums.shape[2] * self.sums.element_size() + self.n * self.ends.element_size()

    def _grow(self, n_sentences: int, hidden: int) -> None:
        n_more, n_wider = n_sentences - self.ends.shape[1], hidden - self.sums.shape[2]
        if n_more > 0 or n_wider > 0:
            n_more = max(n_more, 0) + MOST_SPARE
            self.ends = functional.pad(self.ends, (0, n_more), value=-1)
            self.sums = functional.pad(self.sums, (0, n_wider, 0, n_more))


def summed(hidden: Tensor, ends: list[int]) -> tuple[Tensor, Tensor]:
    """Return a whole text's ends [1,S+1] and sums [1,S+1,hidden], the open sentence included, which may be empty.

    hidden: [T,hidden], of all its tokens. ends: S positions, rising.
    """
    begins = [0, *(end + 1 for end in ends)]
    lengths = [stop - begin for begin, stop in zip(begins, [*begins[1:], len(hidden)], strict=True)]
    sums = torch.stack([sentence.sum(dim=0) for sentence in hidden.float().split(lengths)])
    return torch.tensor([[*ends, -1]], device=hidden.device), sums[None]


def joined(before: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], start: int) -> tuple[Tensor, Tensor]:
    """Return the ends [1,S+1] and sums [1,S+1,hidden] of a text that came in two parts, each as `summed` returns them.

    start: position of the second part's first token. The sentence that the first part leaves open goes on in the second.
    """
    (ends, sums), (later_ends, later_sums) = before, new
    later_ends = torch.where(later_ends >= 0, later_ends + start, -1)
    through = sums[:, -1:] + later_sums[:, :1]
    return torch.cat([ends[:, :-1], later_ends], dim=1), torch.cat([sums[:, :-1], through, later_sums[:, 1:]], dim=1)
