"""What a layer asks of attention beside its queries, keys and values, and the softmax that does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from designspace.errors import InvariantViolation, ModelError

if TYPE_CHECKING:
    from typing import Any

# What transformers hands to every attention function, and what cannot change an outcome here: prompts and steps are causal,
# nothing is dropped at inference, and no mask or position of its own is needed.
_WITHOUT_EFFECT = frozenset(
    {
        "attention_mask", "cache_position", "dropout", "is_causal", "output_attentions", "output_hidden_states",
        "output_router_logits", "position_ids", "return_dict", "use_cache",
    }
)  # fmt: skip
_flight = threading.local()


class LayerCall(NamedTuple):
    """One layer's way of attending.

    layer: its number in the model. scaling: multiplies query times key. window: how many positions back it sees, None: all.
    softcap: logits become softcap * tanh(logits / softcap) (Gemma 2). sinks: [H_q], one more logit per query head that
    takes its share of the softmax and has no value (GPT-OSS).
    """

    layer: int
    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is scaled dot-product attention, which kernels know."""
        return self.softcap is None and self.sinks is None

    def logits(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return float32 logits [...,n,C] of queries [...,n,D] for keys [...,C,D], before any mask."""
        logits = queries.float() @ keys.float().mT * self.scaling
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def weights(self, logits: Tensor) -> Tensor:
        """Return attention weights of masked logits [B,H_q,n,C] or [B,H_kv,G,C]; with sinks they sum to less than one."""
        if self.sinks is None:
            return torch.softmax(logits, dim=-1)
        heads = logits.shape[1] if logits.shape[1] == len(self.sinks) else logits.shape[1:3]
        shape = (heads, 1, 1) if isinstance(heads, int) else (*heads, 1)
        sinks = self.sinks.float().view(shape).expand(*logits.shape[:-1], 1)
        return torch.softmax(torch.cat([logits, sinks], dim=-1), dim=-1)[..., :-1]


def refuse_unknown(layer: int, asked: dict[str, Any]) -> None:
    """Check that a layer asks for nothing that is not implemented.

    Raises:
        ModelError: naming what it asks for.
    """
    unknown = sorted(name for name, value in asked.items() if name not in _WITHOUT_EFFECT and value is not None)
    if unknown:
        raise ModelError(
            f"layer {layer} asks attention for {', '.join(unknown)}, which slot attention does not implement"
        )


@contextmanager
def in_flight(one: object) -> Iterator[None]:
    """Make a pass known to the layers of a model that do not hand on what the model was called with."""
    before = getattr(_flight, "now", None)
    _flight.now = one
    try:
        yield
    finally:
        _flight.now = before


def pass_in_flight() -> Any:
    """Return the pass that a model is called with now.

    Raises:
        InvariantViolation: there is none.
    """
    now = getattr(_flight, "now", None)
    if now is None:
        raise InvariantViolation("a model under slot attention was called without a pass")
    return now
