"""The few combinations of labels that many rows have: what is worked out for each of them serves a million rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def distinct_rows(table: pa.Table, names: Sequence[str]) -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """Return the combinations of values that columns have, and for each row which of them it has, [n_rows] int64.

    names: columns of texts or numbers, nulls included.
    """
    which, combinations = np.zeros(table.num_rows, dtype=np.int64), [()]
    for name in names:
        values, codes = _encoded(table[name])
        found, which = np.unique(which * max(1, len(values)) + codes, return_inverse=True)
        earlier, later = np.divmod(found, max(1, len(values)))
        combinations = [(*combinations[a], values[b]) for a, b in zip(earlier.tolist(), later.tolist(), strict=True)]
    return combinations, which.astype(np.int64, copy=False)


def spread(values: Sequence[str | None], which: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return a column of a type: for each row the value of its combination. which: [n_rows], from `distinct_rows`."""
    taken = pa.array(values, type=pa.string()).dictionary_encode().take(pa.array(which))
    return taken.cast(kind)


def _encoded(column: pa.ChunkedArray) -> tuple[list[Any], np.ndarray]:
    """Return the distinct values of a column, None the last, and for each row the index of its own."""
    is_encoded = pa.types.is_dictionary(column.type)
    column = column.unify_dictionaries() if is_encoded else pc.dictionary_encode(column)
    if column.num_chunks == 0:
        return [], np.zeros(0, dtype=np.int64)
    values = column.chunk(0).dictionary.to_pylist()
    chunks = [chunk.indices.fill_null(len(values)).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return [*values, None], np.concatenate(chunks).astype(np.int64)
