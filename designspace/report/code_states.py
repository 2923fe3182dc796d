"""Which states of the code made the texts of some cells: version and digest of all source files, noted with every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from designspace.report.side_reading import rows_beside
from designspace.store import ResultsStore


def code_states(store: ResultsStore, cell_ids: Collection[str]) -> dict[str, int]:
    """Return the number of texts that each state of the code made, sorted by its id."""
    found = Counter(rows_beside(store, ["code_id"], cell_ids)["code_id"].to_pylist())
    return dict(sorted(found.items()))


def code_states_text(states: Mapping[str, int]) -> str:
    """Return the states in words, e.g. `0.1.0+1a2b3c4d5e6f (64 texts), 0.1.0+6f5e4d3c2b1a (8 texts)`."""
    return ", ".join(f"{code} ({n:,} text{'s' if n != 1 else ''})" for code, n in states.items())
