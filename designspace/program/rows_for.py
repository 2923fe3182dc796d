"""How many texts are written at the same time, where nobody says: all of them, or as many as memory has room for."""

from __future__ import annotations

from designspace.axes import Budget, Mechanism
from designspace.memory.batch_rows import NamedArm, plan_rows
from designspace.memory.footprint import ArmMemory
from designspace.models.free_memory import free_bytes
from designspace.models.loading import LoadedModel

_MOST = 64  # rows
_AMPLE = 10  # times what is reckoned roughly: then it need not be measured, which takes seconds
_LOGIT_COPIES = 8


def rows_for(loaded: LoadedModel, memory: ArmMemory, mechanism: Mechanism, budget: Budget | None, n_texts: int) -> int:
    """Return the number of rows for so many texts: at most 64, and what fits into the free memory of the model's device.

    Raises:
        DeclarationError: not even one row fits.
    """
    wanted = min(n_texts, _MOST)
    free = free_bytes(loaded.device)
    vocabulary = int(loaded.model.config.vocab_size)
    if _AMPLE * (memory.cache(wanted) + 4 * _LOGIT_COPIES * wanted * vocabulary) <= free:
        return wanted
    name = mechanism.name if budget is None else f"{mechanism.name} at budget {budget}"
    # The weights are there already, so they are part of what may be taken.
    return min(wanted, plan_rows([NamedArm(name, "this model", memory)], free + memory.weights).rows)
