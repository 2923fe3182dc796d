"""The changes of what texts' caches held, as a table."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from designspace.engine.retention import RetentionRecord

SCHEMA = pa.schema(
    [
        pa.field("mechanism", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("gone", pa.list_(pa.int32()), nullable=False),
        pa.field("back", pa.list_(pa.int32()), nullable=False),
    ]
)


def retention_table(records: Mapping[str, RetentionRecord]) -> pa.Table:
    """Return a line for each text, step, layer and KV head in which a token went or came back; records: by mechanism.

    `gone` and `back` are positions; the newest token, which every head takes in at every step, is in neither.
    """
    rows = [{"mechanism": name, **change._asdict()} for name, record in records.items() for change in record.changes]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
