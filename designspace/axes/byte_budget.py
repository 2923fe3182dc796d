"""Budgets in bytes: how many tokens a representation may hold in the bytes of b full-precision tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes.budget import Budget
from designspace.axes.geometry import Geometry
from designspace.axes.slot_store import StoreSpec
from designspace.axes.strategy import Cadence, Representation
from designspace.errors import InfeasibleBudget

_MOST_TIMES_FULL = 40  # no representation here holds more than this many tokens in the bytes of one


def tokens_for_bytes(
    cadence: Cadence,
    representation: Representation,
    budget: Budget,
    geometry: Geometry,
    dtype: torch.dtype,
    owners: tuple[int, ...] | None,
    *,
    weighted: bool = False,
) -> Budget:
    """Return the largest mean budget in tokens whose mean bytes are at most those of `budget.tokens` full tokens.

    Bytes are averaged over one steady cycle of the mechanism's cadence, all heads holding alike. Full tokens are those
    of the whole model: where layers share caches (`owners`), the saving counts. weighted: whether every slot carries a
    number of tokens that it stands for.

    Raises:
        InfeasibleBudget: nothing fits, the cadence has no steady mean, or bytes depend on the data.
    """
    if representation.bytes_depend_on_data:
        raise InfeasibleBudget(
            f"representation {representation.kind!r} needs as many bytes as the data asks for, so no number of "
            "tokens can be matched to a budget in bytes beforehand; use tokens"
        )
    if not cadence.bounded:
        raise InfeasibleBudget(
            f"cadence {cadence.kind!r} has no steady mean, so it has none in bytes; use {{tokens: …, of: nominal}}"
        )
    held = geometry if owners is None else geometry.owning(owners)
    full_token = 2 * geometry.head_dim * dtype.itemsize * geometry.n_heads_total
    most = _MOST_TIMES_FULL * budget.tokens
    by_size = bytes_by_size(representation, held, 2 * most, dtype, weighted=weighted)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        mean = _mean_bytes(cadence, Budget(middle), by_size)
        if mean is None or mean <= budget.tokens * full_token:
            low = middle
        else:
            high = middle - 1
    found = Budget(max(low, 1))
    mean = _mean_bytes(cadence, found, by_size)
    if mean is None or mean > budget.tokens * full_token:
        raise InfeasibleBudget(
            f"representation {representation.kind!r} under cadence {cadence.kind!r} holds no number "
            f"of tokens in the bytes of {budget.tokens} full tokens"
        )
    return found


def bytes_by_size(
    representation: Representation, geometry: Geometry, largest: int, dtype: torch.dtype, *, weighted: bool = False
) -> Tensor:
    """Return the bytes of one row that holds n tokens in every head, for n = 0 … largest, [largest+1] int64."""
    store = representation.allocate(StoreSpec(geometry, 1, largest, dtype, torch.device("meta"), {}))
    sizes = torch.arange(largest + 1)
    counts = sizes[None, :, None].expand(geometry.n_layers, -1, geometry.n_kv_heads)
    held = store.held_bytes(counts)
    return held + 4 * sizes * geometry.n_heads_total if representation.carries_mass or weighted else held


def _mean_bytes(cadence: Cadence, budget: Budget, by_size: Tensor) -> float | None:
    """Return the mean over a few steady cycles, None where the cadence cannot hold so few tokens."""
    try:
        schedule = cadence.schedule(budget)
    except InfeasibleBudget:
        return None
    sizes = schedule.simulate(schedule.high, 8 * max(schedule.max_growth, 1))
    return float(by_size[torch.tensor(sizes)].double().mean())
