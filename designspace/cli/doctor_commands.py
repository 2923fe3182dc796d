"""The command that checks a results folder and moves what is damaged out of the way: doctor."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from designspace.cli.exit_codes import EXIT_ERROR
from designspace.cli.formats import FormatOption, format_of, print_found, table_of
from designspace.cli.options import AsJson, ResultsFolder

if TYPE_CHECKING:
    from designspace.store import Finding, ResultsStore, SetAside

# What the next run makes anew, by the folder that a file was moved from.
_MADE_ANEW = {
    "samples": ("shard", "shards"),
    "grades": ("file of grades", "files of grades"),
    "cells": ("document of a cell", "documents of cells"),
    "studies": ("declaration", "declarations"),
}


def doctor(
    results: ResultsFolder,
    mend: Annotated[
        bool, typer.Option("--mend", help="Move what is damaged below RESULTS/damaged; the next run makes it anew.")
    ] = False,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
) -> None:
    """Check every file of a results folder. Exit code 1 if something is damaged, or cannot be read, and is not mended."""
    store = _opened(results)
    found = store.examine()
    moved = store.set_damaged_aside(found) if mend else []
    left = [finding for finding in found if not (finding.is_sound or (mend and finding.is_damage))]
    said = [*_moved_lines(moved), _verdict(store, found, left, moved)]
    document = _document(store, found, moved, is_sound=not left)
    chosen = format_of(file_format, as_json)
    print_found(
        chosen,
        table=lambda: "\n".join((*_finding_lines(found), *said)),
        document=lambda: document,
        rows=lambda: table_of(document["findings"], ("kind", "what", "path", "reason", "meaning")),
        notes=() if chosen == "json" else said,
    )
    if left:
        raise typer.Exit(EXIT_ERROR)


def _opened(results: Path) -> ResultsStore:
    from designspace.store import DamagedFilesWarning, ResultsStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedFilesWarning)  # the examination says it too
        return ResultsStore.open(results, create=False)


def _finding_lines(found: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each finding; files without a checksum share one, as all of an older store are."""
    from designspace.store.examine import Kind

    unsealed = [finding for finding in found if finding.kind == Kind.WITHOUT_CHECKSUM]
    yield from (str(finding) for finding in found if finding.kind != Kind.WITHOUT_CHECKSUM)
    if unsealed:
        n = len(unsealed)
        yield f"{Kind.WITHOUT_CHECKSUM}: {n} file{'s'[: n > 1]}, the first is {unsealed[0].path}: {unsealed[0].meaning}"


def _moved_lines(moved: Sequence[SetAside]) -> Iterator[str]:
    for file in moved:
        yield f"moved: {file.path} to {file.moved_to}"


def _verdict(store: ResultsStore, found: Sequence[Finding], left: Sequence[Finding], moved: Sequence[SetAside]) -> str:
    from designspace.store.reader import mending

    if moved:
        anew = _made_anew(store, moved)
        return f"{store.root}: nothing was deleted; " + (
            f"the next `designspace run` makes anew: {anew}" if anew else "nothing is to be made anew"
        )
    n_damaged = sum(finding.is_damage for finding in found)
    if n_damaged:
        return f"{store.root}: {n_damaged} damaged; to move them out of the way: {mending(store.root)}"
    return f"{store.root}: {f'{len(left)} not readable' if left else 'sound'}"


def _made_anew(store: ResultsStore, moved: Sequence[SetAside]) -> str:
    counts = Counter(file.path.relative_to(store.root).parts[0] for file in moved)
    return ", ".join(f"{counts[top]} {words[counts[top] > 1]}" for top, words in _MADE_ANEW.items() if counts[top])


def _document(
    store: ResultsStore, found: Sequence[Finding], moved: Sequence[SetAside], *, is_sound: bool
) -> dict[str, Any]:
    return {
        "results": str(store.root),
        "sound": is_sound,
        "findings": [
            {
                "kind": str(finding.kind),
                "what": str(finding.what),
                "path": str(finding.path),
                "reason": finding.reason,
                "meaning": finding.meaning,
            }
            for finding in found
        ],
        "set_aside": [
            {"path": str(file.path), "reason": file.reason, "moved_to": str(file.moved_to)} for file in moved
        ],
        "made_anew_by_run": _made_anew(store, moved),
    }
