"""Texts that are given, not generated: what is fed next in each row, in the place of what is chosen."""

from __future__ import annotations

from collections.abc import Collection, Container

import numpy as np
import torch
from torch import Tensor

from designspace.axes import Decoding, Request
from designspace.engine.row import RowState
from designspace.errors import InvariantViolation

_FREE = -1  # no token: what is chosen is fed


def check_reference(request: Request, decoding: Decoding, limit: int, eos_ids: Container[int]) -> None:
    """Check that the reference text of a request, if it has one, can be fed; limit: the most new tokens.

    Raises:
        InvariantViolation: it cannot.
    """
    text = request.reference
    if text is None:
        return
    who = f"the reference text of {request.problem_id!r}"
    if not decoding.scores_tokens:
        raise InvariantViolation(f"{who} needs a decoding that scores tokens, got {decoding.kind!r}")
    if not 0 < len(text) <= limit:
        raise InvariantViolation(f"{who} must have 1 to {limit} tokens, got {len(text)}")
    if any(token in eos_ids for token in text[:-1]):
        raise InvariantViolation(f"{who} must end with its first end-of-text token, got one before its end")


def given_tokens(states: Collection[RowState], n_steps: int, n_rows: int, device: torch.device) -> Tensor | None:
    """Return the tokens [n,B] that come next in the rows' reference texts, -1 where there is none; None if no row has one."""
    if all(state.request.reference is None for state in states):
        return None
    given = np.full((n_steps, n_rows), _FREE, dtype=np.int64)
    for state in states:
        begun = len(state.tokens)
        following = (state.request.reference or ())[begun : begun + n_steps]
        given[: len(following), state.index] = following
    return torch.from_numpy(given).to(device)


def with_given(chosen: Tensor, given: Tensor | None) -> Tensor:
    """Return the tokens [B] to feed: given ones where there are any, else chosen ones; given: [B], -1 where there is none."""
    return chosen if given is None else torch.where(given == _FREE, chosen, given)
