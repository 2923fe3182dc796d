"""Task direction: a bonus for tokens whose value points where the values of the task point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Scoring, View
from families.scoring.selectors.greedy_loop import unit_features
from families.scoring.triattention import TriAttention
from families.scoring.wrapped_scoring import Wrapper


@dataclass(frozen=True)
class VariantB(Wrapper):
    """Add a bonus to another scoring for values that point where the prompt's values point [sun2026minimal].

    The score is the base's score plus lam * cos(v_i, direction), the mean-value cosine prior. v_i is the value of the
    token, averaged over all layers and heads that hold it and normalised: the signature that the selector `diversity`
    uses. The direction is the normalised mean of the signatures of held tokens; each token counts once, however many
    heads hold it. If there is no such token, or if they cancel out, the direction is zero and the scores are those of
    the base.

    The source says neither which tokens give the direction (`over`), nor how strong the bonus was (`lam`), nor how it
    treats prompt tokens that have been evicted. Here the direction comes from the tokens that are held at the event.

    Attributes:
        scoring: the base; `triattention` by default.
        lam: weight of the cosine, at least 0; 0.5 by default. It is meaningful only relative to the scale of the base's
            scores.
        over: "prompt" (the default): the direction of the held prompt tokens. "all": the direction of all held tokens.
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks, recent: numbers of first and newest tokens that are always kept; 0 (the default) takes over those of the
            base.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "variant-b"
    citation: ClassVar[str | None] = "sun2026minimal"

    scoring: Scoring = field(default=TriAttention(), kw_only=True)
    lam: Annotated[float, Ge(0)] = 0.5
    over: Literal["prompt", "all"] = "prompt"

    def needs(self) -> Needs:
        """Return the needs of the base, and the values."""
        return super().needs() | Needs(values=True)

    def score(self, view: View) -> Tensor:
        """Return the scores of the base with the bonus added, [L,E,H_kv,C]."""
        scores = self.scoring.score(view)
        return scores + self.lam * self.cosine(view) if self.lam else scores

    def cosine(self, view: View) -> Tensor:
        """Return each held token's cosine to the direction, [L,E,H_kv,C]."""
        signatures = unit_features(view, "values", "global")
        members = view.valid
        if self.over == "prompt":
            members = members & (view.positions < view.n_prompt_tokens[None, :, None, None])
        return torch.einsum("lehcd,ed->lehc", signatures, direction(view, signatures, members))


def direction(view: View, signatures: Tensor, members: Tensor) -> Tensor:
    """Return the unit mean of the members' signatures, each token once, [E,D]; zero if there is no member.

    signatures: [L,E,H,C,D]. members: [L,E,H,C] bool.
    """
    n_rows, dim = signatures.shape[1], signatures.shape[-1]
    slot = view.positions.where(members, view.width).transpose(0, 1).reshape(n_rows, -1, 1).expand(-1, -1, dim)
    by_token = signatures.new_zeros(n_rows, view.width + 1, dim)
    # All holders of a token carry the same signature, so it does not matter which of them is written last.
    by_token.scatter_(1, slot, signatures.transpose(0, 1).reshape(n_rows, -1, dim))
    mean = by_token[:, : view.width].sum(dim=1)
    return mean / (mean.norm(dim=-1, keepdim=True) + 1e-8)
