"""Which slots a kept token goes to: order and mask are fitted to a cache's capacity, and too many tokens are refused."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Observed
from designspace.cache.packing import CompressionResult, Prompt, keep_all
from designspace.errors import InvariantViolation


def text(n_tokens: int, padded: int) -> Prompt:
    """A text of two layers and one head, padded on the right."""
    slot = torch.arange(padded)
    positions = torch.where(slot < n_tokens, slot, -1).expand(2, 1, 1, padded)
    keys, values = torch.zeros(2, 2, 1, 1, padded, 4)
    return Prompt(keys, values, positions, Observed(), n_tokens)


def test_a_whole_text_is_kept_in_order() -> None:
    """Its tokens come first, its padding is not counted."""
    kept = keep_all(text(3, 5))

    assert kept.counts.flatten().tolist() == [3, 3]
    assert kept.order[:, 0, 0, :3].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("capacity", [3, 4, 5, 9])
def test_an_order_is_fitted_to_any_capacity_that_holds_it(capacity: int) -> None:
    """Cut behind the kept slots, or padded with slots that are not filled."""
    order, filled = keep_all(text(3, 5)).fitted(capacity)

    assert order.shape == filled.shape == (2, 1, 1, capacity)
    assert order[:, 0, 0, :3].tolist() == [[0, 1, 2]] * 2
    assert filled[:, 0, 0].tolist() == [[True] * 3 + [False] * (capacity - 3)] * 2


def test_more_tokens_than_slots_are_refused() -> None:
    """Named are the fullest head and the slots."""
    kept = keep_all(text(3, 5))
    uneven = CompressionResult(kept.order, torch.tensor([[[1]], [[4]]]))

    with pytest.raises(InvariantViolation, match="kept 4 tokens in one head of 3 slots"):
        uneven.fitted(3)
