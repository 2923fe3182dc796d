"""Derive a report once more and hold it against the one that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from designspace.errors import ProtocolError
from designspace.protocol.analysis import analyse, report_bytes, report_hash
from designspace.protocol.look_entry import Entry
from designspace.protocol.looks import LookLedger
from designspace.protocol.problem_records import hashes_ids, heldout_hash, heldout_problems, known_by
from designspace.protocol.registration import Difference, Registration, differences, parse_json
from designspace.protocol.row_seal import by_shard, require_seal
from designspace.protocol.sealed_results import require_sealed_rows
from designspace.protocol.selection import Selection


def verify(
    report: Mapping[str, Any] | bytes,
    registration: Registration,
    selection: Selection | None,
    table: pa.Table,
    ledger: LookLedger,
) -> list[Difference]:
    """Return where a report differs from what its registration, its selection and the rows give; empty if nowhere.

    Args:
        report: the document, or the bytes of its file, which must then be the canonical spelling.
        registration: what it says it is of.
        selection: what it was tuned to.
        table: rows of the confirmation.
        ledger: must hold the look; its number is counted anew.

    Raises:
        ProtocolError: the ledger does not hold together or lacks the look or its result, registration or selection are
            not those it knows, or the rows are not those registered, or not those that were sealed.
    """
    if isinstance(report, bytes):
        report = _parsed(report)
    registration.check()
    ledger.require_registered(registration.sha256)
    entry = _look(report, registration, ledger)
    noted = entry.details.get("selection")
    shown = None if selection is None else selection.sha256
    if noted != shown:
        raise ProtocolError(f"the look in line {entry.n} of the ledger was at selection {noted}, got {shown}")
    touching = ledger.looks_touching(*known_by(heldout_problems(registration.document)))
    look = sum(other.n <= entry.n for other in touching)
    sealed = _unbroken_result(registration, entry, table, ledger)
    chosen = None if selection is None else selection.to_json()
    again = analyse(registration.document, chosen, _as_of(entry, table, ledger), entry.sha256, look)
    if report_bytes(report) != report_bytes(again):
        return differences(again, report)
    if sealed is not None and sealed.details["report"] != report_hash(again):
        raise ProtocolError(f"line {sealed.n} of the ledger sealed another report of the same rows")
    return []


def _unbroken_result(registration: Registration, look: Entry, table: pa.Table, ledger: LookLedger) -> Entry | None:
    """Return the result of a look, after checking that the rows are still those it sealed; old ledgers seal nothing."""
    require_sealed_rows(ledger, table)
    result = ledger.result(look.sha256)
    if result is not None:
        require_seal(result.details["seal"], by_shard(table), f"line {result.n} of the ledger")
    elif not hashes_ids(registration.document):
        raise ProtocolError(f"the look in line {look.n} of the ledger must have a sealed result there, got none")
    return result


def _as_of(look: Entry, table: pa.Table, ledger: LookLedger) -> pa.Table:
    """Return the rows as at a look: those made anew under a later one, which its seal found the same, count as its own."""
    later = {entry.sha256 for entry in ledger.entries() if entry.kind == "look" and entry.n > look.n}
    place = table.schema.get_field_index("look_sha256")
    looks = [look.sha256 if found in later else found for found in table["look_sha256"].to_pylist()]
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(looks, pa.string()).cast(field.type))


def _look(report: Mapping[str, Any], registration: Registration, ledger: LookLedger) -> Entry:
    n = ledger.require_head(str(report.get("ledger_head")))
    entry = ledger.entries()[n - 1] if n else None
    mine = (registration.sha256, heldout_hash(registration.document))
    if entry is None or entry.kind != "look" or (entry.registration, entry.heldout) != mine:
        raise ProtocolError(f"line {n} of the ledger must be the look of this report, at registration {mine[0]}")
    return entry


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        report = parse_json(content.decode())
    except ValueError as error:
        raise ProtocolError(f"a report must be JSON: {error}") from error
    if not isinstance(report, dict) or report_bytes(report) != content:
        raise ProtocolError("a report file must be as `report_bytes` spells it: it was edited")
    return report
