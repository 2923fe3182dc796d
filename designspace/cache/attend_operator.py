"""Attention as one opaque operator: it hands over to the pass in flight.

A graph that is compiled with it knows nothing of caches, representations or budgets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.cache.layer_call import LayerCall, pass_in_flight

_library = torch.library.Library("designspace", "DEF")


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layer: int,
    scaling: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    call = LayerCall(layer, scaling, window or None, softcap or None, sinks)
    output: Tensor = pass_in_flight().attend(call, query, key, value)
    return output


def _attend_shape(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layer: int,
    scaling: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    return query.new_empty((query.shape[0], query.shape[2], query.shape[1], query.shape[3]))


_library.define(
    "attend(Tensor query, Tensor key, Tensor value, int layer, float scaling, int window, float softcap, Tensor? sinks)"
    " -> Tensor"
)
_library.impl("attend", _attend, "CompositeExplicitAutograd")
torch.library.register_fake("designspace::attend", _attend_shape, lib=_library)
attend = torch.ops.designspace.attend
