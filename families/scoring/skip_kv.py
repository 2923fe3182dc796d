"""SkipKV: R-KV's score, less a penalty on every token of a sentence that a later one repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le, MinLen
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs, Scoring, Selector, Sentences, View
from families.scoring.r_kv import RKV
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import check_kernel

RELEASED_ENDS = ("\n", ".\n", ")\n", "\n\n", ".\n\n", ")\n\n", "?\n\n")


@dataclass(frozen=True)
class SkipKV(Scoring):
    """Prefer what R-KV prefers, and of sentences that are alike the last one [tian2026skipkv].

    The score is R-KV's, less the penalty of the token's sentence. A sentence is what stands between two tokens of `ends`, the
    latter included; it is described by the mean hidden state of its tokens after the last norm, of evicted ones too. If the
    cosine of a sentence with a later one is above `alike`, the earlier one's penalty is that cosine; of several such later
    ones the last counts. Prompt and text are divided alike. All tokens of a penalised sentence that a head still holds
    before the window are penalised there, unless it holds a single one.

    As in the released code: a sentence without a second token in a head is not penalised, but may repeat an earlier one; the
    penalty is no mean and no largest similarity, but that of the last pair. Deviations: sentences are compared at every
    event, up to and with its newest token, and at that of the prompt too; the release knows them from the step before, so
    its prompt events know none. There heads carry sentences by their slots, and a head that has lost all of them, or had
    none at its first event, never tracks one again; here they are known by positions. Hidden states are summed in float32.
    A row without a similar key spares nothing, and kept tokens stay in the order of the text, as in `r-kv`. The steering of
    hidden states away from checking thoughts, the other half of the published method, shortens texts and is left out.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        lam: weight of the attention in R-KV's score, in [0, 1]; 0.1 by default, as the released script passes it.
        alike: cosine above which a sentence repeats another; 0.95 by default. Published are 0.95 to 0.99, chosen for each
            model, task and budget.
        ends: pieces of text, the last token of each of which ends a sentence; by default the seven of the release, all of
            them with line feeds. A model whose tokenizer lacks one is refused.
        threshold: cosine above which two keys are duplicates, as in `r-kv`; 0.5 by default.
        kernel: number of slots that the attention is max-pooled over, as in `r-kv`, an odd number; 7 by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: length of the observation window in tokens; these newest tokens are always kept. 8 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "skip-kv"
    citation: ClassVar[str | None] = "tian2026skipkv"

    selector: Selector = field(default=TopK())
    lam: Annotated[float, Ge(0), Le(1)] = 0.1
    alike: Annotated[float, Ge(0), Le(1)] = 0.95
    ends: Annotated[tuple[str, ...], MinLen(1)] = RELEASED_ENDS
    threshold: float = 0.5
    kernel: Annotated[int, Ge(1)] = 7
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return R-KV's needs and that for sentences."""
        return self._r_kv.needs() | Needs(sentences=self.ends)

    def score(self, view: View) -> Tensor:
        """Return R-KV's score less the penalty for the tokens before the window, [L,E,H_kv,C]."""
        before = view.positions < (view.next_position - self.recent)[None, :, None, None]
        return self._r_kv.score(view) - self.penalty(view).masked_fill(~(view.valid & before), 0.0)

    def penalty(self, view: View) -> Tensor:
        """Return the penalty of every held token, [L,E,H_kv,C]."""
        rows = zip(view.sentences, view.positions.unbind(dim=1), view.valid.unbind(dim=1), strict=True)
        # Row by row, as texts have different numbers of sentences and sums must not depend on another text's.
        return torch.stack([self._penalty_of_row(*row) for row in rows], dim=1)

    def _penalty_of_row(self, sentences: Sentences, positions: Tensor, valid: Tensor) -> Tensor:
        """Return the penalties of one row; positions, valid: [L,H_kv,C]."""
        by_sentence = functional.pad(repeated(sentences.states, self.alike), (0, 1))  # the open one repeats nothing
        number = sentences.number(positions)
        held = torch.zeros(*positions.shape[:2], len(by_sentence), device=positions.device)
        held = held.scatter_add(-1, number, valid.float()).gather(-1, number)
        return by_sentence[number].masked_fill(~valid | (held < 2), 0.0)

    @property
    def _r_kv(self) -> RKV:
        return RKV(lam=self.lam, threshold=self.threshold, kernel=self.kernel, recent=self.recent)


def repeated(states: Tensor, alike: float) -> Tensor:
    """Return each state's cosine with the last later one that is above `alike`, 0 where none is; states: [S,hidden]; [S]."""
    unit = functional.normalize(states, dim=-1, eps=1e-8)
    cosine = unit @ unit.mT
    later = torch.triu(cosine > alike, diagonal=1)
    place = torch.arange(len(states), device=states.device)
    last = torch.where(later, place, -1).amax(dim=-1) if len(states) else place
    return torch.where(last >= 0, cosine.gather(-1, last.clamp(min=0)[:, None])[:, 0], 0.0)
