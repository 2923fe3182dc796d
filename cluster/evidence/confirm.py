"""Confirm on the held-out problems, once, and verify what a report says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.code_id import code_id
from cluster.evidence.folder import EvidenceFolder, opened
from cluster.evidence.register import study_of
from cluster.evidence.tune import looked_arms, require_unchanged
from cluster.run import RunOutcome, RunSettings, run_sweeps
from designspace.errors import ProtocolError
from designspace.protocol import HeldoutKey, Registration, open_look, resume_look
from designspace.protocol import verify as recompute
from designspace.protocol.analysis import analyse, report_bytes
from designspace.protocol.registration import Difference, read_json
from designspace.protocol.selection import Selection, load_selection
from designspace.store import ResultsStore
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


def confirm(registration: str | Path, settings: RunSettings | None = None) -> Confirmed:
    """Note the look, run the held-out problems, analyse; the same call again resumes, or gives the same report.

    Raises:
        RegistrationMismatch: what is here differs from what was registered; nothing was run or noted.
        ProtocolError: tuning is missing, or registration, selection or ledger do not hold.
    """
    folder, registered = opened(registration)
    study = study_of(registered, folder)
    require_unchanged(study, registered)
    selection = _selection(study, registered, folder)
    key = _look(study, registered, selection, folder)
    sweep = _heldout_sweep(study, selection, key)
    outcome = run_sweeps([sweep], sweep.study, folder.results, settings or RunSettings())
    path = folder.file(registered.sha256, "report")
    if not outcome.complete:
        return Confirmed(outcome, None, path)
    report = _analysed(registered, selection, sweep, key, folder)
    atomic_bytes(path, report_bytes(report), path.parent)
    return Confirmed(outcome, report, path)


def verify(report: str | Path) -> list[Difference]:
    """Recompute every number of a report from the store; return where the file differs, nothing if it is right.

    Raises:
        ProtocolError: the report's registration, selection, look or rows are not here.
    """
    path = Path(report)
    stored = read_json(path, "report")
    folder, registered = opened(EvidenceFolder.around(path).file(str(stored.get("registration")), "registration"))
    selection = _selection(study_of(registered, folder), registered, folder)
    cells = stored.get("rows", {}).get("cells", [])
    table = ResultsStore.open(folder.results, create=False).samples(cell_ids=set(map(str, cells))).to_table()
    return recompute(path.read_bytes(), registered, selection, table, folder.ledger)


def _selection(study: Study, registered: Registration, folder: EvidenceFolder) -> Selection | None:
    if not study.space:
        return None
    path = folder.file(registered.sha256, "selection")
    if not path.is_file():
        raise ProtocolError(f"study {study.name!r} has values to tune: run `designspace tune` first")
    return load_selection(path, folder.ledger)


def _look(study: Study, registered: Registration, selection: Selection | None, folder: EvidenceFolder) -> HeldoutKey:
    """Return the key of the look that this confirmation is, noting it first if it is not noted yet."""
    values = {} if selection is None else selection.values
    facts: dict[str, Any] = {
        "arms": looked_arms(study.sweep_for(values)),
        "selection": None if selection is None else selection.sha256,
        "code": code_id(),
    }
    return resume_look(folder.ledger, registered, **facts) or open_look(folder.ledger, registered, **facts)


def _heldout_sweep(study: Study, selection: Selection | None, key: HeldoutKey) -> Sweep:
    sweep = study.heldout_sweep({} if selection is None else selection.values, key)
    return replace(sweep, study=f"{study.name}-confirm")


def _analysed(
    registered: Registration, selection: Selection | None, sweep: Sweep, key: HeldoutKey, folder: EvidenceFolder
) -> dict[str, Any]:
    store = ResultsStore.open(folder.results, create=False)
    table = store.samples(cell_ids={cell.cell_id for cell in expand(sweep)}).to_table()
    chosen = None if selection is None else selection.to_json()
    return analyse(registered.document, chosen, table, ledger_head=key.ledger_head, look=key.look)
