"""From a registration and the rows it asked for to the report, by nothing but what was registered.

`analyse` is pure: the same arguments give the same document, byte for byte in canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.decision import decide
from designspace.protocol.document import check_document, tuned_parameters
from designspace.protocol.hypotheses import Row, corrected, judge
from designspace.protocol.metric import figures_of
from designspace.protocol.outcome_rows import checked_rows, in_order, rows_hash
from designspace.protocol.problem_records import heldout_hash
from designspace.protocol.registration import document_hash
from designspace.protocol.report_notes import report_notes
from designspace.protocol.selection import selection_of

FORMAT = 1


def analyse(
    registration: Mapping[str, Any],
    selection: Mapping[str, Any] | None,
    table: pa.Table,
    ledger_head: str,
    look: int,
) -> dict[str, Any]:
    """Return the report as plain JSON data.

    Every hypothesis has a `status`: `void` where memory is not matched (checked first), `incomplete` where a registered
    generation is missing or not graded, else `ok`. Only `ok` ones have an effect and a p value; accuracies of arms that
    are not complete are withheld, for a confirmation is not watched while it runs.

    Args:
        registration: the document.
        selection: `Selection.to_json()`; None where nothing is tuned.
        table: rows of the results store joined with their grades: of the confirmation, and nothing else.
        ledger_head: hash of the ledger's line that opened this look.
        look: how many looks have touched these held-out problems, this one included.

    Raises:
        ProtocolError: the document is no registration, the selection is missing or another's, or the rows are not those
            registered.
    """
    check_document(registration)
    sha256 = document_hash(registration)
    chosen = _checked_selection(registration, selection, sha256)
    if not (isinstance(look, int) and look >= 1):
        raise ProtocolError(f"look must be at least 1, got look={look}")
    table = in_order(table, registration["metric"])
    rows = checked_rows(registration, table)
    figures = figures_of(registration["metric"], table, registration["tolerance"]) if rows else {}
    sides = _sides(rows)
    results = corrected(
        registration, [judge(registration, found, sides, figures) for found in registration["hypotheses"]]
    )
    decision = None if registration["decision"] is None else decide(registration["decision"], results)
    report = {
        "format": FORMAT,
        "study": registration["study"],
        "registration": sha256,
        "parent": registration["parent"],
        "seen": registration["seen"],
        "selection": chosen,
        "heldout": heldout_hash(registration),
        "look": look,
        "ledger_head": ledger_head,
        "rows": {"n": len(rows), "sha256": rows_hash(rows), "cells": sorted({row["cell_id"] for row in rows})},
        "metric": registration["metric"],
        "test": dict(registration["test"]),
        "alpha": registration["alpha"],
        "m": registration["m"],
        "correction": registration["correction"],
        "threshold": registration["alpha"] / registration["m"],
        "tolerance": registration["tolerance"],
        "smallest_effect": registration["smallest_effect"],
        "status": _status(results),
        "hypotheses": results,
        "decision": None if decision is None else asdict(decision),
    }
    report["notes"] = report_notes(registration, report, rows)
    plain: dict[str, Any] = json.loads(canonical_json(report))
    return plain


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a report: canonical JSON and a line end."""
    return f"{canonical_json(report)}\n".encode()


def report_hash(report: Mapping[str, Any]) -> str:
    """Return the SHA-256 of `report_bytes`."""
    return hashlib.sha256(report_bytes(report)).hexdigest()


def _checked_selection(
    registration: Mapping[str, Any], selection: Mapping[str, Any] | None, sha256: str
) -> dict[str, Any] | None:
    tuned = tuned_parameters(registration)
    if selection is None:
        if tuned:
            raise ProtocolError(f"what is tuned must be selected first, got no selection of {', '.join(tuned)}")
        return None
    found = selection_of(selection)
    if found.registration != sha256:
        raise ProtocolError(f"the selection must be of registration {sha256}, got one of {found.registration}")
    if tuned and not found.values:
        raise ProtocolError(f"the selection must have values for what is tuned, {', '.join(tuned)}, got none")
    return {"sha256": found.sha256, "values": found.values}


def _sides(rows: Iterable[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows of each model, task, budget and arm."""
    sides: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        sides[row["model"], row["task"], row["budget"], row["mechanism"]].append(row)
    return dict(sides)


def _status(results: Sequence[Mapping[str, Any]]) -> str:
    found = {result["status"] for result in results}
    return next((status for status in ("incomplete", "void") if status in found), "ok")
