"""An engine whose tokens somebody else chooses: prompts go in and logits come out, then tokens go in and logits come out.

Prefill, decode step, accounts and events are the engine's own, so whoever chooses the most probable token at every step gets
the tokens that the engine would have written, and the same cache account. The engine chooses too, as it always does; its
choice stands as the last token of a row until the one that was really chosen is fed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from designspace.axes import Generation, Request
from designspace.engine.engine import Engine
from designspace.engine.row import RowState
from designspace.errors import DeclarationError, InvariantViolation


class FedEngine:
    """One batch on one engine, all of whose rows begin together; it is not filled again.

    engine: nothing else may run on it meanwhile. eos_ids: tokens with which a text ends.
    """

    def __init__(self, engine: Engine, eos_ids: frozenset[int]) -> None:
        """Refuse an engine whose decoding does more than choose.

        Raises:
            DeclarationError: the decoding steers, votes or is fed, which goes by the tokens that it chooses itself.
        """
        decoding = engine.decoding
        if decoding.steers or decoding.samples > 1 or decoding.reference is not None:
            raise DeclarationError(
                f"mechanism {engine.mechanism.name!r}: decoding {decoding.kind!r} writes the text itself, so no other can"
                " choose its tokens"
            )
        self.engine, self.eos_ids = engine, eos_ids
        self._ended: dict[int, Generation] = {}

    @torch.inference_mode()
    def begin(self, requests: Sequence[Request]) -> Tensor:
        """Take in as many prompts as there are rows, and return the logits [B,V] after them.

        Raises:
            InvariantViolation: not as many, a batch has begun, or a prompt is empty or too long.
            DeclarationError: a text may become longer than the model's longest.
        """
        engine = self.engine
        if len(requests) != engine.rows or engine.in_flight or self._ended:
            raise InvariantViolation(f"a batch must begin once, with {engine.rows} requests, got {len(requests)}")
        queue = deque(requests)
        engine.prefill.announce(queue)
        logits = [engine.admit(row, queue)[1] for row in range(engine.rows)]
        engine.prefill.forget()
        return torch.cat(logits)

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to each row and return the logits [B,V] after it.

        A text that has ended stays as it is, whatever is fed, and its logits mean nothing.
        """
        for state in list(self.engine.in_flight.values()):
            self._settle(state, tokens[state.index])
            if state.tokens[-1] in self.eos_ids:
                self._ended[state.index] = self.engine.end(state, "stop")
        return self.engine.advance(1).logits

    @torch.inference_mode()
    def finish(self, tokens: Sequence[int]) -> tuple[Generation, ...]:
        """End all texts that have not ended yet, each with the token chosen last, which is never fed; return all by row."""
        for state in list(self.engine.in_flight.values()):
            self._settle(state, tokens[state.index])
            reason = "stop" if state.tokens[-1] in self.eos_ids else "length"
            self._ended[state.index] = self.engine.end(state, reason)
        return tuple(self._ended[row] for row in sorted(self._ended))

    def _settle(self, state: RowState, token: int) -> None:
        """Put the token that was chosen in the place of the engine's own choice."""
        state.tokens[-1] = token
        self.engine.runner.next_tokens[state.index] = token
