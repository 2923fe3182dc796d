"""Decoding: hand vectors and the limits of sampling."""

from __future__ import annotations

import pytest
import torch

from designspace.errors import DeclarationError
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling

LOGITS = torch.tensor([[0.5, 0.3, 0.2]]).log()


def test_nucleus_d2() -> None:
    """Top-p of .7 on [.5,.3,.2] keeps the first two, renormalised to [.625,.375]."""
    sampling = Sampling(temperature=1.0, top_p=0.7)
    draws = [int(sampling.choose(LOGITS, torch.tensor([u]))) for u in (0.0, 0.624, 0.626, 0.999)]

    assert draws == [0, 0, 1, 1]


def test_limits() -> None:
    """P → 0 and τ → 0 are greedy; p = 1 keeps all."""
    u = torch.tensor([0.99])

    assert int(Sampling(temperature=1.0, top_p=1e-9).choose(LOGITS, u)) == int(Greedy().choose(LOGITS, u)) == 0
    assert int(Sampling(temperature=1e-3).choose(LOGITS, u)) == 0
    assert int(Sampling(temperature=1.0, top_p=1.0).choose(LOGITS, u)) == 2


def test_frequencies_follow_the_distribution() -> None:
    """Evenly spaced uniforms reproduce the probabilities to a permille."""
    u = (torch.arange(10_000) + 0.5).double() / 10_000
    drawn = Sampling(temperature=1.0, top_p=1.0).choose(LOGITS.expand(10_000, -1), u)

    assert (drawn.bincount() / 10_000).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-3)


def test_ties_go_to_the_lowest_id() -> None:
    """Greedy on equal logits."""
    assert int(Greedy().choose(torch.zeros(1, 5), torch.zeros(1))) == 0


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_bad_parameters(bad: dict[str, float]) -> None:
    """Refused with the rule and what was got."""
    with pytest.raises(DeclarationError, match=r"got (temperature|top_p)="):
        Sampling(**bad)
