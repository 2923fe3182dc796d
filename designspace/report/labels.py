"""Labels of arms: a cell's rows carry those they were made under, a sweep may have others for it by now."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from designspace.store.distinct_rows import distinct_rows, spread

Labels = Mapping[str, str | Mapping[str, str]]


def relabelled(table: pa.Table, labels: Labels) -> pa.Table:
    """Return the rows with the labels that their cells have now; other cells keep theirs.

    Args:
        table: rows of the results store with `cell_id` and the columns to relabel.
        labels: by cell id, the name of its mechanism, or a value for each of some columns.
    """
    wanted = {cell_id: {"mechanism": of} if isinstance(of, str) else dict(of) for cell_id, of in labels.items()}
    for column in dict.fromkeys(name for of in wanted.values() for name in of):
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        found, which = distinct_rows(table, ("cell_id", column))
        values = [wanted.get(cell_id, {}).get(column, value) for cell_id, value in found]
        table = table.set_column(place, field, spread(values, which, field.type))
    return table
