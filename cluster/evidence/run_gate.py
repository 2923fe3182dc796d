"""What a plain sweep runs of problems that a registration holds out is a look, and noted before it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.code_id import code_id
from cluster.evidence.arms import looked_arms
from cluster.work import Work
from designspace.protocol.places import ledger_in
from designspace.protocol.showing import heldout_cells, look_text, note_showing, noted_showing


def note_run(work: Work, results: Path, say: Callable[[str], None]) -> str | None:
    """Note a look where a sweep's problems are held out by a registration of the same results, and return its hash.

    The same cells again are the same look. None where nothing is held out.

    Args:
        work: the sweep's cells.
        results: folder of its results.
        say: shows a message.

    Raises:
        ProtocolError: the ledger does not hold together.
    """
    ledger = ledger_in(results)
    found = heldout_cells(ledger, {cell.cell_id: cell.task.load() for cell in work.cells})
    if found is None:
        return None
    cells = [cell for cell in work.cells if cell.cell_id in found.cells]
    noted = note_showing(ledger, found, lambda: looked_arms(cell.mechanism for cell in cells), "run", code_id())
    if noted is not None:
        say(look_text(ledger, noted))
    look = noted or noted_showing(ledger, found)
    return None if look is None else look.sha256
