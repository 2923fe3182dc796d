"""How far a study has come, from its store alone: what `designspace status` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from designspace.cli.running import running, running_text
from designspace.report.code_states import code_states, code_states_text
from designspace.report.declared import OtherCells, declared_study
from designspace.store import ResultsStore, ShardKey

_CELL_FIELDS = ("cell_id", "model", "task", "split", "mechanism", "budget", "replicate", "n_shards")
CELL_COLUMNS = (*_CELL_FIELDS, "n_committed")


def study_status(
    store: ResultsStore | None, stored: Sequence[ShardKey], study: str, cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the progress of a study as plain data.

    A failure is open as long as no later attempt has committed its shard.

    Args:
        store: of its results, where there is one.
        stored: the shards in it.
        study: name of the study.
        cells: those of a plan or of a study document.
    """
    n_committed = Counter(key.cell_id for key in stored)
    wanted = {cell["cell_id"] for cell in cells}
    done = {(key.cell_id, key.shard_id) for key in stored}
    failures = [] if store is None else [f for f in store.failures() if f.cell_id in wanted]
    newest = {(f.cell_id, f.shard_id): f for f in sorted(failures, key=lambda f: f.attempt)}
    rows = [
        {**{name: cell[name] for name in _CELL_FIELDS}, "n_committed": n_committed[cell["cell_id"]]} for cell in cells
    ]
    return {
        "study": study,
        "n_cells": len(rows),
        "n_shards": sum(row["n_shards"] or 0 for row in rows),
        "n_committed": sum(row["n_committed"] for row in rows),
        "n_failed_attempts": len(failures),
        "running": None if store is None else running(store, stored, rows),
        "code_states": {} if store is None else code_states(store, wanted),
        "cells": rows,
        "open_failures": [
            {"cell_id": f.cell_id, "shard_id": f.shard_id, "attempt": f.attempt, **f.reason}
            for key, f in newest.items()
            if key not in done
        ],
    }


def store_status(store: ResultsStore, stored: Sequence[ShardKey], study: str | None = None) -> list[dict[str, Any]]:
    """Return the progress of every study in a store, or of one of them, as its newest document declares it.

    Raises:
        UnknownName: there is no study of that name.
    """
    names = sorted(store.studies()) if study is None else [study]
    found = [declared_study(store, name) for name in names]
    return [study_status(store, stored, declared.study, declared.cells) for declared in found if declared is not None]


def others_text(others: Sequence[OtherCells]) -> list[str]:
    """Return what the folder holds beside the studies shown, one line per label."""
    if not others:
        return []
    lines = [f"beside them {sum(cells.n_cells for cells in others)} cells of other or of earlier declarations:"]
    for cells in others:
        place = f"{cells.model}, {cells.task}/{cells.split}, {cells.mechanism}, {cells.budget}"
        n_cells = "1 cell" if cells.n_cells == 1 else f"{cells.n_cells} cells"
        lines.append(f"  {cells.study}: {place}: {n_cells}, {cells.n_texts} texts")
    return lines


def status_text(status: Mapping[str, Any]) -> str:
    """Return a study's progress for people: one line per mechanism and budget, then what failed."""
    arms: dict[tuple[str, str], list[int]] = {}
    for cell in status["cells"]:
        counts = arms.setdefault((cell["mechanism"], cell["budget"]), [0, 0])
        counts[0] += cell["n_committed"]
        counts[1] += cell["n_shards"] or 0
    lines = [f"{status['study']}: {status['n_committed']}/{status['n_shards']} shards of {status['n_cells']} cells"]
    if status["n_committed"] < status["n_shards"]:
        lines.append(running_text(status["running"]))
    width = max((len(name) for name, _ in arms), default=0)
    for (name, budget), (n_committed, n_shards) in arms.items():
        lines.append(f"  {name:<{width}}  {budget:>12}  {n_committed}/{n_shards}")
    if len(status["code_states"]) > 1:
        lines.append(
            f"  made by {len(status['code_states'])} states of the code: {code_states_text(status['code_states'])}; arms may "
            "differ by more than their mechanisms"
        )
    return "\n".join([*lines, *(f"  {line}" for line in failure_lines(status))])


def failure_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for every failure of a study that no later attempt has mended."""
    for failure in status["open_failures"]:
        state = "given up" if failure.get("quarantined") else "failed"
        reason = f"{failure.get('error')}: {failure.get('message')}".splitlines()[0]
        yield f"{state} at attempt {failure['attempt']}: {failure.get('cell')}: {reason}"
