"""The command that tells how far a study has come."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from designspace.cli.formats import Format, FormatOption, format_of, print_found, table_of
from designspace.cli.options import AsJson, ResultsOption, StudyOption, SweepOrResults, declared_by
from designspace.errors import UnknownName

_CLEAR = "\x1b[2J\x1b[H"  # empties a terminal and goes to its first line


def status(
    target: SweepOrResults,
    results: ResultsOption = None,
    study: StudyOption = None,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
    watch: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Show it again every so many seconds, until all is done."),
    ] = None,
) -> None:
    """Show how far a study has come, whether a run is on and when it ends, and what failed."""
    chosen = format_of(file_format, as_json)
    while True:
        found = _status(target, results, study)
        if watch is not None and sys.stdout.isatty():
            typer.echo(_CLEAR, nl=False)
        _print_status(found, chosen)
        is_done = all(entry["n_committed"] >= entry["n_shards"] for entry in found["studies"])
        if watch is None or is_done:
            return
        time.sleep(watch)


def _status(target: Path, results: Path | None, study: str | None) -> dict[str, Any]:
    """Return the progress of the studies of a results folder, or of one sweep, as plain data."""
    from designspace.cli.status import store_status, study_status
    from designspace.report.declared import other_cells
    from designspace.store import ResultsStore

    store: ResultsStore | None
    if target.is_dir():
        store = ResultsStore.open(target, create=False)
        stored = store.shards()
        found = store_status(store, stored, study)
    else:
        declared, store = declared_by(target, results)
        if study not in (None, declared.study):
            raise UnknownName(f"study of {target}", study, [declared.study])
        stored = [] if store is None else store.shards()
        found = [study_status(store, stored, declared.study, declared.cells)]
    shown_cells = {cell["cell_id"] for entry in found for cell in entry["cells"]}
    others = [] if store is None else other_cells(store, stored, shown_cells)
    return {"studies": found, "others": [asdict(cells) for cells in others]}


def _print_status(found: dict[str, Any], chosen: Format) -> None:
    from designspace.cli.status import CELL_COLUMNS, failure_lines, others_text, status_text
    from designspace.report.declared import OtherCells

    def text() -> str:
        others = others_text([OtherCells(**cells) for cells in found["others"]])
        return "\n".join([*(status_text(entry) for entry in found["studies"]), *others]) or "no study yet"

    cells = [{"study": entry["study"], **cell} for entry in found["studies"] for cell in entry["cells"]]
    print_found(
        chosen,
        table=text,
        document=lambda: found,
        rows=lambda: table_of(cells, ("study", *CELL_COLUMNS)),
        notes=() if chosen == "json" else [line for entry in found["studies"] for line in failure_lines(entry)],
    )
