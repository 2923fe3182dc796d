"""Names of arms: a cell's rows carry the name they were made under, a sweep may have another for it by now."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa


def relabelled(table: pa.Table, labels: Mapping[str, str]) -> pa.Table:
    """Return the rows with the mechanism names that `labels` has for their cells; other cells keep theirs.

    Args:
        table: rows of the results store with `cell_id` and `mechanism`.
        labels: mechanism name by cell id, as the sweep declares it now.
    """
    place = table.schema.get_field_index("mechanism")
    names = [
        labels.get(cell_id, name)
        for cell_id, name in zip(table["cell_id"].to_pylist(), table["mechanism"].to_pylist(), strict=True)
    ]
    return table.set_column(place, table.schema.field(place), pa.array(names).cast(table.schema.field(place).type))
