"""Held-out problems are shown by nothing but `confirm` unless the look is noted first.

A command that runs or shows rows asks here which of them are of problems that a registration of the same results holds out.
These are noted as a look, before anything is shown; the same problems in the same cells are noted once. Rows of a
confirmation whose result is not sealed yet are left out: it is not watched while it runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from designspace.canonical import canonical_json
from designspace.protocol.look_entry import Entry, LookedArm
from designspace.protocol.looks import LookLedger, touching
from designspace.protocol.places import ledger_in
from designspace.protocol.problem_records import heldout_problems, known_by
from designspace.protocol.recognition import recognised_by
from designspace.protocol.registration import load
from designspace.protocol.row_seal import sealed_shards, shards_of
from designspace.store import ResultsStore
from designspace.tasks.problem import Problem

COLUMNS = ("cell_id", "shard_id", "mechanism", "task", "split", "problem_id", "prompt", "answer", "kind", "look_sha256")
_CELL_DIGITS = 16


class Shown(NamedTuple):
    """Rows that may be shown, and what to say with them."""

    table: pa.Table
    notes: list[str]


class HeldoutCells(NamedTuple):
    """What of some work or rows is held out: the newest registration concerned, cells, problems and their hashes."""

    registered: Entry
    cells: frozenset[str]
    problem_ids: tuple[str, ...]
    hashes: tuple[str, ...]


def shown_rows(results: str | Path, table: pa.Table, command: str) -> Shown:
    """Return the rows that a command may show, once the look at them is noted where they are of held-out problems.

    Args:
        results: folder of the rows.
        table: with at least `COLUMNS`.
        command: what shows them.

    Raises:
        ProtocolError: the ledger does not hold together, or lacks a look that rows were made under.
    """
    ledger = ledger_in(results)
    ledger.require_looks(set(table["look_sha256"].unique().to_pylist()) - {None})
    hidden = _unfinished_cells(ledger, table)
    notes = []
    if hidden:
        table = table.filter(
            pc.invert(pc.is_in(table["cell_id"].cast(pa.string()), pa.array(sorted(hidden), pa.string())))
        )
        notes.append(f"left out: {len(hidden)} cells of held-out problems, for their confirmation is not finished")
    # Where nothing is registered nothing is held out, and of a million rows every problem need not be looked at.
    found = heldout_cells(ledger, _problems_by_cell(table)) if any(map(_registers, ledger.entries())) else None
    if found is not None:
        noted = note_showing(ledger, found, lambda: _arms_of(results, table, found.cells), command)
        notes += [] if noted is None else [look_text(ledger, noted)]
    return Shown(table, notes)


def heldout_cells(ledger: LookLedger, problems: Mapping[str, Sequence[Problem]]) -> HeldoutCells | None:
    """Return what is held out by any registration of a ledger; None if nothing is.

    Args:
        ledger: of the results.
        problems: those of one task split, by cell.
    """
    held = [(entry, _hashes_of(ledger, entry)) for entry in ledger.entries() if _registers(entry)]
    if not held:
        return None
    cells: set[str] = set()
    ids: dict[str, None] = {}
    hashes: set[str] = set()
    newest: Entry | None = None
    known: dict[tuple[Problem, ...], list[frozenset[str]]] = {}
    for cell, of_cell in problems.items():
        asked = tuple(of_cell)
        for problem, recognised in zip(asked, known.setdefault(asked, recognised_by(asked)), strict=True):
            entries = [entry for entry, heldout in held if recognised & heldout]
            if entries:
                cells.add(cell)
                ids[problem.problem_id] = None
                hashes |= recognised
                newest = entries[-1] if newest is None or newest.n < entries[-1].n else newest
    return None if newest is None else HeldoutCells(newest, frozenset(cells), tuple(ids), tuple(sorted(hashes)))


def n_rows_of(table: pa.Table, hashes: Iterable[str]) -> int:
    """Return how many rows are of problems that are known by any of these hashes."""
    wanted, n_rows = set(hashes), Counter(table["cell_id"].to_pylist())
    found = 0
    for cell, problems in _problems_by_cell(table).items():
        n_found = sum(not wanted.isdisjoint(recognised) for recognised in recognised_by(problems))
        found += n_found * n_rows[cell] // len(problems)
    return found


def note_showing(
    ledger: LookLedger,
    found: HeldoutCells,
    arms: Callable[[], Mapping[str, LookedArm]],
    command: str,
    code: str | None = None,
) -> Entry | None:
    """Note a look by a command and return its entry; None where these problems in these cells are noted already.

    Args:
        ledger: where to note it.
        found: what will be shown.
        arms: returns the arms by name, where they are asked for.
        command: what shows it.
        code: id of the code.
    """
    if noted_showing(ledger, found) is not None:
        return None
    return ledger.append(
        "look",
        registration=found.registered.registration,
        heldout=found.registered.heldout,
        problem_ids=found.problem_ids,
        contents=found.hashes,
        arms=arms(),
        details={"command": command, "cells": sorted(_short(found.cells))},
        code=code,
    )


def noted_showing(ledger: LookLedger, found: HeldoutCells) -> Entry | None:
    """Return the first look by which these problems in these cells were shown; None if none did."""
    cells, ids = _short(found.cells), set(found.problem_ids)
    for entry in ledger.entries():
        is_showing = entry.kind == "look" and not entry.is_confirmation
        if is_showing and cells <= set(entry.details.get("cells", ())) and ids <= set(entry.problem_ids):
            return entry
    return None


def look_text(ledger: LookLedger, look: Entry) -> str:
    """Return what to say of a look that was noted."""
    until = [entry for entry in ledger.entries() if entry.n <= look.n]
    number = len(touching(until, look.problem_ids, look.contents))
    return (
        f"{len(look.problem_ids)} problems are held out by registration {look.registration[:16]}: "
        f"held-out look #{number}, noted in {ledger.path.name}"
    )


def _registers(entry: Entry) -> bool:
    return entry.kind in ("register", "amend")


def _hashes_of(ledger: LookLedger, entry: Entry) -> frozenset[str]:
    """Return what the held-out problems of a registration are known by; entries of earlier versions leave it to the file."""
    if entry.contents:
        return frozenset(entry.contents)
    file = ledger.path.with_name(f"{entry.registration[:16]}.registration.json")
    return frozenset(known_by(heldout_problems(load(file).document))[1]) if file.is_file() else frozenset()


def _unfinished_cells(ledger: LookLedger, table: pa.Table) -> set[str]:
    """Return the cells with rows of a confirmation that has no result, but for rows that a later one has sealed."""
    unfinished = ledger.unfinished()
    sealed = {
        shard for entry in ledger.entries() if entry.kind == "result" for shard in sealed_shards(entry.details["seal"])
    }
    return {
        cell
        for (cell, shard), looks in shards_of(table).items()
        if not looks.isdisjoint(unfinished) and (cell, shard) not in sealed
    }


def _problems_by_cell(table: pa.Table) -> dict[str, list[Problem]]:
    names = ["cell_id", "task", "split", "problem_id", "prompt", "answer", "kind"]
    plain = pa.table({name: table[name].cast(pa.string()) for name in names})
    found: dict[str, list[Problem]] = {}
    for row in plain.group_by(names).aggregate([]).sort_by([(name, "ascending") for name in names]).to_pylist():
        problem = Problem(row["problem_id"], row["prompt"], row["answer"] or "", row["kind"])
        found.setdefault(row["cell_id"], []).append(problem)
    return found


def _arms_of(results: str | Path, table: pa.Table, cells: Iterable[str]) -> dict[str, LookedArm]:
    """Return the arms of some cells by the names that their rows have, as their identities describe them."""
    names = dict(zip(table["cell_id"].to_pylist(), table["mechanism"].to_pylist(), strict=True))
    identities = ResultsStore.open(results, create=False).cells()
    return dict(_named(names, identities, sorted(cells)))


def _named(
    names: Mapping[str, str], identities: Mapping[str, Mapping[str, Any]], cells: Iterable[str]
) -> Iterator[tuple[str, LookedArm]]:
    for cell in cells:
        mechanism = identities.get(cell, {}).get("mechanism", {})
        digest = hashlib.sha256(canonical_json(mechanism).encode()).hexdigest()
        yield names[cell], LookedArm(digest, str(mechanism.get("scoring", {}).get("kind", "unknown")))


def _short(cells: Iterable[str]) -> set[str]:
    return {cell[:_CELL_DIGITS] for cell in cells}
