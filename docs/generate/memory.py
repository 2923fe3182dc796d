"""How many bytes a token takes in each KV head, as the cache ledger counts them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from designspace.axes import Geometry, Needs, Representation
from designspace.cache.slots import SlotCache
from designspace.errors import InfeasibleBudget
from docs.generate.markdown import table

N_TOKENS = 1024
GEOMETRY = Geometry(n_layers=32, n_query_heads=32, n_kv_heads=8, head_dim=128, inv_freq=torch.ones(64))
MODEL = "32 layers, 32 query heads, 8 KV heads of 128 dimensions, 16 bits, 1,024 tokens held"


class TokenBytes(NamedTuple):
    """Bytes per token and KV head: of keys and values as they are held, read in a step, and of what is observed beside."""

    held: float
    read: float
    beside: float


_ROWS = ("held: keys and values", "read in a decode step", "beside: position and what is observed")
_SEEN = "[the catalogue](../../catalogue.md) has what was measured"


def memory_of(representation: Representation, needs: Needs | None = None, weighs: bool = False) -> str:
    """Return what a token takes, in words; with the needs of a whole system, or those of the representation alone."""
    found = token_bytes(representation, needs or representation.needs(), weighs)
    if isinstance(found, str):
        return f"Bytes per token and KV head: {found}."
    rows = [[name, f"{size:,.1f}".removesuffix(".0")] for name, size in zip(_ROWS, found, strict=True)]
    words = f"Bytes per token and KV head, in a model with {MODEL}; a full-precision token takes 512."
    return "\n\n".join([words, table(["", "bytes"], rows)])


@cache
def token_bytes(representation: Representation, needs: Needs, weighs: bool) -> TokenBytes | str:
    """Return the bytes of a token, or why they cannot be told beforehand."""
    if representation.bytes_depend_on_data:
        return f"as many as the data asks for; {_SEEN}"
    try:
        try:
            return _measured(representation, needs, weighs, torch.device("meta"))
        except RuntimeError:  # a store that looks at numbers, which the meta device does not have
            return _measured(representation, needs, weighs, torch.device("cpu"))
    except InfeasibleBudget:
        return f"known only when its calibration is; {_SEEN}"


def _measured(representation: Representation, needs: Needs, weighs: bool, device: torch.device) -> TokenBytes:
    filled = SlotCache(
        GEOMETRY, representation, needs,
        rows=1, capacity=N_TOKENS, dtype=torch.bfloat16, device=device, width=2 * N_TOKENS, weighted=weighs,
    )  # fmt: skip
    counts = torch.full((GEOMETRY.n_layers, 1, GEOMETRY.n_kv_heads), N_TOKENS)
    n_tokens = N_TOKENS * GEOMETRY.n_heads_total
    return TokenBytes(
        *(float(count(counts)[0]) / n_tokens for count in (filled.held_bytes, filled.read_bytes, filled.aux_bytes))
    )
