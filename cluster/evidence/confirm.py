"""Confirm on the held-out problems, once, and verify what a report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.code_id import code_id
from cluster.evidence.arms import looked_arms
from cluster.evidence.confirmation_page import write_confirmation_page
from cluster.evidence.folder import EvidenceFolder, opened
from cluster.evidence.register import study_of
from cluster.evidence.tune import require_development_rows, require_unchanged
from cluster.run import RunOutcome, RunSettings, run_sweeps
from designspace.errors import ProtocolError
from designspace.protocol import HeldoutKey, Registration, open_look, resume_look
from designspace.protocol import verify as recompute
from designspace.protocol.analysis import analyse, report_bytes, report_hash
from designspace.protocol.document import grader_id_of
from designspace.protocol.registration import Difference, read_json
from designspace.protocol.row_seal import seal_of
from designspace.protocol.sealed_results import gone, require_sealed_rows
from designspace.protocol.selection import Selection, load_selection
from designspace.store.commit import atomic_bytes
from sweeps.expand import expand
from sweeps.spec import Sweep
from sweeps.study import Study


@dataclass(frozen=True)
class Confirmed:
    """What a confirmation came to. `report` is None where shards were given up: the same command goes on."""

    outcome: RunOutcome
    report: dict[str, Any] | None
    path: Path

    @property
    def page(self) -> Path:
        """Where the page of the report is."""
        return self.path.with_suffix(".html")


def confirm(registration: str | Path, settings: RunSettings | None = None) -> Confirmed:
    """Note the look, run the held-out problems, analyse, seal the result, and write its report and its page.

    The same call again resumes; once the result is sealed, it only holds rows and report against the seal, and gives the
    same report. Where sealed rows are gone, making them anew is another look, with a report of its own.

    Raises:
        RegistrationMismatch: what is here differs from what was registered; nothing was run or noted.
        ProtocolError: tuning is missing, registration, selection or ledger do not hold, or sealed rows or the report were
            changed.
    """
    folder, registered = opened(registration)
    study = study_of(registered, folder)
    require_unchanged(study, registered)
    selection = _selection(study, registered, folder)
    key = _look(study, registered, selection, folder)
    sweep = _heldout_sweep(study, selection, key)
    require_sealed_rows(folder.ledger, _rows(sweep, folder))
    outcome = run_sweeps([sweep], sweep.study, folder.results, settings or RunSettings(), look_sha256=key.ledger_head)
    path = folder.report_file(key)
    if not outcome.complete:
        return Confirmed(outcome, None, path)
    table = _rows(sweep, folder)
    require_sealed_rows(folder.ledger, table)
    chosen = None if selection is None else selection.to_json()
    report = analyse(registered.document, chosen, table, ledger_head=key.ledger_head, look=key.look)
    folder.ledger.seal(key.ledger_head, seal_of(table), report_hash(report), code=code_id())
    _write_once(path, report)
    done = Confirmed(outcome, report, path)
    write_confirmation_page(done.page, report, registered.document, table, folder.results)
    return done


def verify(report: str | Path) -> list[Difference]:
    """Recompute every number of a report from the store; return where the file differs, nothing if it is right.

    Raises:
        ProtocolError: the report's registration, selection, look, result or rows are not here, or not those of the ledger.
    """
    path = Path(report)
    stored = read_json(path, "report")
    folder, registered = opened(EvidenceFolder.around(path).file(str(stored.get("registration")), "registration"))
    selection = _selection(study_of(registered, folder), registered, folder)
    cells = set(map(str, stored.get("rows", {}).get("cells", [])))
    table = folder.rows(cells, graders=_graders(registered))
    return recompute(path.read_bytes(), registered, selection, table, folder.ledger)


def _graders(registered: Registration) -> set[str]:
    """Return the ids of the graders whose grades a registration is judged by; none where no text is graded."""
    document = registered.document
    if document["metric"] != "accuracy":
        return set()
    return {grader_id_of(document, task) for task in document["data"]["heldout"]}


def _selection(study: Study, registered: Registration, folder: EvidenceFolder) -> Selection | None:
    if not study.space:
        return None
    path = folder.file(registered.sha256, "selection")
    if not path.is_file():
        raise ProtocolError(f"study {study.name!r} has values to tune: run `designspace tune` first")
    selection = load_selection(path, folder.ledger)
    require_development_rows(selection, folder)
    return selection


def _look(study: Study, registered: Registration, selection: Selection | None, folder: EvidenceFolder) -> HeldoutKey:
    """Return the key of the look that this confirmation is, noting it first if it is not noted yet."""
    values = {} if selection is None else selection.values
    facts: dict[str, Any] = {
        "arms": looked_arms(study.sweep_for(values).mechanisms),
        "selection": None if selection is None else selection.sha256,
        "code": code_id(),
    }
    key = resume_look(folder.ledger, registered, **facts)
    result = None if key is None else folder.ledger.result(key.ledger_head)
    if result is not None:
        table = folder.rows(set(result.details["seal"]["cells"]))
        require_sealed_rows(folder.ledger, table)  # what is left: nothing is noted where it was changed
        if gone(result, table):
            key = None
    return key or open_look(folder.ledger, registered, **facts)


def _heldout_sweep(study: Study, selection: Selection | None, key: HeldoutKey) -> Sweep:
    sweep = study.heldout_sweep({} if selection is None else selection.values, key)
    return replace(sweep, study=f"{study.name}-confirm")


def _rows(sweep: Sweep, folder: EvidenceFolder) -> pa.Table:
    return folder.rows({cell.cell_id for cell in expand(sweep)})


def _write_once(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report, or check that the file has it: a report is never overwritten."""
    if not path.exists():
        atomic_bytes(path, report_bytes(report), path.parent)
    elif path.read_bytes() != report_bytes(report):
        raise ProtocolError(
            f"{path} was edited: it is not the report that the ledger sealed; `designspace verify` says where"
        )
