"""The one owner of what a stored row looks like.

A later version may only add nullable columns: readers fill them with nulls in older files. Anything else raises the
version and brings a converter on the reading side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa

from designspace.errors import StoreError, did_you_mean
from designspace.store.column_texts import SAMPLE_TEXTS, described

SAMPLES_VERSION = 1
GRADES_VERSION = 1

_LABEL = pa.dictionary(pa.int32(), pa.string())  # few distinct values: one small integer per row


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SAMPLES_SCHEMA = pa.schema(
    [
        _required("cell_id", _LABEL),
        _required("shard_id", _LABEL),
        _required("study", _LABEL),
        _required("model", _LABEL),
        _required("task", _LABEL),
        _required("split", _LABEL),
        _required("problem_id", pa.string()),
        _required("kind", _LABEL),
        _required("mechanism", _LABEL),
        _required("budget", _LABEL),
        pa.field("budget_tokens", pa.int32()),
        pa.field("budget_of", _LABEL),
        _required("replicate", pa.int32()),
        _required("seed", pa.int64()),
        _required("prompt", pa.string()),
        _required("text", pa.string()),
        _required("n_prompt_tokens", pa.int32()),
        _required("n_new_tokens", pa.int32()),
        _required("finish_reason", _LABEL),
        _required("mean_cache_tokens", pa.float64()),
        pa.field("steady_mean_cache_tokens", pa.float64()),
        _required("peak_cache_tokens", pa.float64()),
        _required("mean_cache_bytes", pa.float64()),
        _required("peak_cache_bytes", pa.float64()),
        _required("mean_read_bytes", pa.float64()),
        _required("mean_aux_bytes", pa.float64()),
        _required("n_events", pa.int32()),
        _required("n_evicted", pa.int64()),
        _required("cache_tokens_per_step", pa.list_(pa.float32())),
        _required("wall_s", pa.float64()),
        _required("shard_wall_s", pa.float64()),
        _required("attempt", pa.int32()),
        _required("worker", _LABEL),
        _required("started_at", pa.timestamp("us", tz="UTC")),
        _required("code_id", _LABEL),
        _required("engine_version", _LABEL),
        pa.field("n_extra_tokens", pa.int64()),
        pa.field("look_sha256", _LABEL),
        pa.field("prompt_token_ids", pa.list_(pa.int32())),
        pa.field("token_ids", pa.list_(pa.int32())),
        pa.field("prompt_survival_union", pa.float64()),
        pa.field("prompt_survival_mean", pa.float64()),
        pa.field("forced_of", _LABEL),
        pa.field("forced_logp_mean", pa.float64()),
        pa.field("forced_logp_full_mean", pa.float64()),
        pa.field("forced_loss_over_full", pa.float64()),
        pa.field("forced_agreement", pa.float64()),
        pa.field("forced_first_disagreement", pa.int32()),
        pa.field("forced_logps", pa.list_(pa.float32())),
        pa.field("forced_full_logps", pa.list_(pa.float32())),
        pa.field("forced_agrees", pa.list_(pa.bool_())),
        pa.field("sampling_error", pa.float64()),
        pa.field("taken_from", _LABEL),
        pa.field("prompt_text", pa.string()),
        pa.field("forced_answer_agreement", pa.float64()),
        pa.field("forced_answer_logp_mean", pa.float64()),
    ]
)
# Known of texts that were fed, null where the model wrote its own: which text it was, log-probabilities in nats (means over
# tokens, and of each token) under the arm and under the full cache, the share of tokens that are the arm's first choice, and
# the index of the first that is not, null where all are; and of the tokens that write the answer of a solution alone.
FORCED_COLUMNS = tuple(name for name in SAMPLES_SCHEMA.names if name.startswith("forced_"))

GRADES_SCHEMA = pa.schema(
    [
        _required("cell_id", _LABEL),
        _required("shard_id", _LABEL),
        _required("problem_id", pa.string()),
        _required("replicate", pa.int32()),
        _required("grader_id", _LABEL),
        _required("answer", pa.string()),
        pa.field("extracted", pa.string()),
        _required("grade_status", _LABEL),
        _required("correct", pa.bool_()),
        pa.field("lenient_extracted", pa.string()),
        _required("lenient_status", _LABEL),
        _required("lenient_correct", pa.bool_()),
        pa.field("grader", _LABEL),
        pa.field("grader_version", pa.int32()),
    ]
)

ROW_KEY = ("problem_id", "replicate")  # names one row of a shard, in samples and in grades
GRADE_COLUMNS = tuple(name for name in GRADES_SCHEMA.names if name not in SAMPLES_SCHEMA.names)
# Samples that nobody has graded yet are rows too, so every grade column is nullable in the joined table.
# Its fields say what they mean, in metadata; shard files do not repeat that.
RESULTS_SCHEMA = described(
    pa.schema([*SAMPLES_SCHEMA, *(GRADES_SCHEMA.field(name).with_nullable(True) for name in GRADE_COLUMNS)]),
    SAMPLE_TEXTS,
)


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, what: str) -> pa.Table:
    """Build a table of exactly `schema` from dictionaries.

    Args:
        rows: one mapping per row; every column must be there, a nullable one may be None.
        schema: what the table must be.
        what: names the rows in messages, e.g. `samples`.

    Raises:
        StoreError: no rows, an unknown or missing key, or a value of the wrong type; the message names the column.
    """
    if not rows:
        raise StoreError(f"{what}: a shard holds at least one row, got none")
    for index, row in enumerate(rows):
        unknown, missing = [n for n in row if n not in schema.names], [n for n in schema.names if n not in row]
        if unknown:
            raise StoreError(
                f"{what}, row {index}: unknown column {unknown[0]!r}{did_you_mean(unknown[0], schema.names)}"
            )
        if missing:
            raise StoreError(f"{what}, row {index}: missing column{'s'[: len(missing) > 1]} {', '.join(missing)}")
    return pa.table([_column([row[f.name] for row in rows], f, what) for f in schema], schema=schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a stored table in the shape of `schema`: missing nullable columns become nulls, unknown ones are dropped.

    Raises:
        StoreError: a required column is missing, holds nulls, or has a type that does not convert without loss.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise StoreError(f"column {field.name!r} is missing")
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if not column.type.equals(field.type):
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise StoreError(f"column {field.name!r} must be {field.type}, got {column.type}") from error
        if column.null_count and not field.nullable:
            raise StoreError(f"column {field.name!r} must not hold nulls, got {column.null_count}")
        columns.append(column)
    return pa.table(columns, schema=schema)


def _column(values: list[Any], field: pa.Field, what: str) -> pa.Array:
    for index, value in enumerate(values):
        if not (field.nullable if value is None else _fits(value, field.type)):
            rule = f"must be {_spell(field)}"
            raise StoreError(f"{what}, row {index}: column {field.name!r} {rule}, got {value!r:.80}")
    try:
        if pa.types.is_list(field.type):
            kind = field.type.value_type.to_pandas_dtype()
            values = [None if value is None else np.asarray(value, dtype=kind) for value in values]
        return pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"{what}: column {field.name!r} must be {_spell(field)}: {error}") from error


def _fits(value: Any, kind: pa.DataType) -> bool:
    # pyarrow itself turns 3.5 into the int32 3, True into 1.0 and bytes into text without a word.
    if pa.types.is_boolean(kind):
        return isinstance(value, bool | np.bool_)
    if pa.types.is_integer(kind):
        return not isinstance(value, bool) and isinstance(value, Integral)
    if pa.types.is_floating(kind):
        return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    if pa.types.is_timestamp(kind):
        return isinstance(value, datetime) and value.tzinfo is not None
    if pa.types.is_list(kind) and pa.types.is_boolean(kind.value_type):
        return isinstance(value, list | tuple) and all(isinstance(entry, bool) for entry in value)
    if pa.types.is_list(kind):
        return _is_integer_list(value) if pa.types.is_integer(kind.value_type) else _is_finite_list(value)
    return isinstance(value, str)


def _is_integer_list(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    numbers = np.asarray(value)
    # An empty list has no integers and no floats; int32 is what the column holds.
    fits = numbers.size == 0 or (numbers.dtype.kind in "iu" and bool((np.abs(numbers) < 2**31).all()))
    return numbers.ndim == 1 and fits


def _is_finite_list(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:
        numbers = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        return False
    return numbers.ndim == 1 and bool(np.isfinite(numbers).all())


def _spell(field: pa.Field) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    words = {"bool": "true or false", "double": "a finite number", "string": "text"}
    if pa.types.is_timestamp(kind):
        spelt = "a datetime with a time zone"
    elif pa.types.is_list(kind):
        entries = {"bool": "true or false"}.get(str(kind.value_type), "finite numbers")
        spelt = f"a list of {'integers' if pa.types.is_integer(kind.value_type) else entries}"
    else:
        spelt = words.get(str(kind), f"an integer ({kind})")
    return f"{spelt} or None" if field.nullable else spelt
