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


@pytest.mark.parametrize(("top_k", "top_p"), [(1, 1.0), (5, 1.0), (5, 0.6), (20, 0.95), (40, 0.8), (64, 0.5), (0, 0.7)])
def test_kept_tokens_are_those_of_transformers(top_k: int, top_p: float) -> None:
    """Temperature, then the most likely tokens, then the share of their mass, in the order of `generate`."""
    from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).double() * 2
    warped = TemperatureLogitsWarper(0.7)(None, logits)
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    expected = torch.softmax(warped, dim=-1)
    cumulative, order = Sampling(temperature=0.7, top_p=top_p, top_k=top_k).nucleus(logits)
    mass = torch.diff(cumulative, dim=-1, prepend=torch.zeros(50, 1, dtype=torch.float64)) / cumulative[:, -1:]

    torch.testing.assert_close(torch.zeros_like(expected).scatter(-1, order, mass), expected, rtol=1e-9, atol=1e-12)


def test_drawing_from_all_is_as_it_was() -> None:
    """To the last bit, and under the identity of before there was a limit."""
    assert "top_k" not in str(Sampling().identity())
    assert Sampling(top_k=20).identity() != Sampling().identity()
    logits = torch.randn(9, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Sampling(top_k=64).nucleus(logits)[0], Sampling().nucleus(logits)[0])


@pytest.mark.parametrize(("top_k", "top_p", "min_p"), [(0, 1.0, 0.1), (9, 0.9, 0.05), (0, 0.8, 0.2), (5, 1.0, 1.0)])
def test_min_p_is_that_of_transformers(top_k: int, top_p: float, min_p: float) -> None:
    """After temperature, top_k and top_p, as `generate` orders them."""
    from transformers.generation import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 64, generator=torch.Generator().manual_seed(2)).double() * 2
    warped = TemperatureLogitsWarper(0.7)(None, logits)
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    without = torch.softmax(warped, dim=-1)
    expected = torch.softmax(MinPLogitsWarper(min_p)(None, warped), dim=-1)
    cumulative, order = Sampling(temperature=0.7, top_p=top_p, top_k=top_k, min_p=min_p).nucleus(logits)
    mass = torch.diff(cumulative, dim=-1, prepend=torch.zeros(50, 1, dtype=torch.float64)) / cumulative[:, -1:]

    assert ((expected > 0) != (without > 0)).any()
    torch.testing.assert_close(torch.zeros_like(expected).scatter(-1, order, mass), expected, rtol=1e-9, atol=1e-12)


def test_what_was_added_stays_out_of_the_identity() -> None:
    """At its default, so that older results keep their ids; and in it otherwise."""
    for plain, changed in (
        (Sampling(), Sampling(min_p=0.1)),
        (Sampling(), Sampling(repetition_penalty=1.1)),
        (Greedy(), Greedy(repetition_penalty=1.1)),
    ):
        assert not {"min_p", "repetition_penalty"} & plain.identity().keys()
        assert plain.identity() != changed.identity()
