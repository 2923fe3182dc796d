"""Combinations of labels are those that a plain loop finds."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from designspace.store.distinct_rows import distinct_rows, spread


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("n_chunks", [1, 3])
def test_every_row_has_its_combination(encoded: bool, n_chunks: int) -> None:
    """Texts, numbers and nulls, in one chunk or in several whose dictionaries differ; none is listed that no row has."""
    draw = random.Random(7)
    chunks = [
        [(draw.choice(["a", "b", None, f"only-{k}"]), draw.choice([1, 2, None]), draw.choice("xyz")) for _ in range(40)]
        for k in range(n_chunks)
    ]
    texts = [pa.array([row[0] for row in chunk]) for chunk in chunks]
    columns = {
        "text": pa.chunked_array([column.dictionary_encode() if encoded else column for column in texts]),
        "number": pa.chunked_array([[row[1] for row in chunk] for chunk in chunks], type=pa.int32()),
        "letter": pa.chunked_array([[row[2] for row in chunk] for chunk in chunks]),
    }
    found, which = distinct_rows(pa.table(columns), ["text", "number", "letter"])
    rows = [row for chunk in chunks for row in chunk]
    assert [found[index] for index in which] == rows
    assert len(found) == len(set(rows)) and set(found) == set(rows)


def test_of_no_rows_there_is_no_combination() -> None:
    """Also where the table has no chunk at all."""
    empty = pa.schema([("text", pa.string()), ("label", pa.dictionary(pa.int32(), pa.string()))]).empty_table()
    found, which = distinct_rows(empty, ["text", "label"])
    assert (found, len(which)) == ([], 0)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_is_made_of_one_value_for_each_combination(kind: pa.DataType) -> None:
    """In the type that is asked for, nulls included."""
    column = spread(["p", None, "q"], np.array([2, 0, 1, 2]), kind)
    assert (column.type, column.to_pylist()) == (kind, ["q", "p", None, "q"])
