"""Rows held against every result that the look ledger seals."""

from __future__ import annotations

import pyarrow as pa

from designspace.protocol.look_entry import Entry
from designspace.protocol.looks import LookLedger
from designspace.protocol.row_seal import Shard, by_shard, regraded, require_seal, sealed_shards, shards_of


def require_sealed_rows(ledger: LookLedger, table: pa.Table) -> None:
    """Check that rows are those that any result seals, whichever registration it is of.

    Shards that are not in the table are passed over, and so are those made anew under a later look: that look has a result
    of its own.

    Raises:
        ProtocolError: some differ, or were made under a look that the ledger lacks.
    """
    entries = ledger.entries()
    looks = {entry.sha256: entry.n for entry in entries if entry.kind == "look"}
    made_under = shards_of(table)
    ledger.require_looks({look for found in made_under.values() for look in found})
    rows = by_shard(table)
    for result in (entry for entry in entries if entry.kind == "result"):
        until = looks[result.details["look"]]
        still = {shard for shard, found in made_under.items() if all(looks[look] <= until for look in found)}
        seal = result.details["seal"]
        # A registration with another grader has other grades of the same texts: those are not the sealed ones, edited.
        require_seal(seal, rows, f"line {result.n} of the ledger", still, ungraded=regraded(seal, rows))


def gone(result: Entry, table: pa.Table) -> set[Shard]:
    """Return the sealed shards of a result of which no row is in a table."""
    return sealed_shards(result.details["seal"]) - shards_of(table).keys()
