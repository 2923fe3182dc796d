"""Freeze a study: its document, hashed, in the ledger before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.evidence.design_power import check_power
from cluster.evidence.folder import EvidenceFolder, opened
from cluster.evidence.live import live_document
from cluster.progress import make_progress
from cluster.run import default_results
from designspace.errors import ProtocolError
from designspace.protocol import Registration, make_registration, save
from designspace.protocol.problem_records import heldout_problems, known_by
from designspace.protocol.showing import COLUMNS, n_rows_of
from designspace.store import ResultsStore
from sweeps.study import Study, load_study


def register(
    file: str | Path, results: str | Path | None = None, *, underpowered: str | None = None
) -> tuple[Registration, Path]:
    """Register a study file; registering the same again returns what is there.

    Where the results hold rows of held-out problems already, the registration says that these were seen, and so does a line
    on stderr.

    Args:
        file: the study.
        results: folder of the store; by default `results/<study>`.
        underpowered: why it is registered although the smallest effect of interest would mostly be missed.

    Raises:
        DeclarationError: the file is no valid study.
        ProtocolError: development and held-out problems overlap, the held-out ones were looked at before (amend), the
            power is too small and no reason is given, the test draws too few resamples to reject anything, or the
            ledger is not that of the rows here.
    """
    study = load_study(file)
    folder = EvidenceFolder(Path(results) if results is not None else default_results(study.name))
    folder.require_own_ledger()
    document = live_document(study, override=underpowered)
    return _registered(study, folder, {**document, "seen": _seen(document, folder)})


def amend(
    registration: str | Path, reason: str, file: str | Path | None = None, *, underpowered: str | None = None
) -> tuple[Registration, Path]:
    """Register a change: a child of a registration, which adds to its family of hypotheses and says what was seen before.

    Args:
        registration: file of the one to amend.
        reason: why, for the readers of the report.
        file: the changed study; None takes the old one's text under the code and the environment of now.
        underpowered: as for `register`.

    Raises:
        ProtocolError: no reason, or as `register`.
    """
    if not reason.strip():
        raise ProtocolError("an amendment needs a reason, got an empty one")
    folder, parent = opened(registration)
    study = load_study(file) if file is not None else study_of(parent, folder)
    data = {"data": study.data_records()}
    seen = bool(folder.ledger.seen_before(data)) or _rows_of_heldout(data, folder) > 0
    document = live_document(
        study, parent=parent.document, parent_sha256=parent.sha256, reason=reason, seen=seen, override=underpowered
    )
    return _registered(study, folder, document)


def study_of(registration: Registration, folder: EvidenceFolder) -> Study:
    """Return the study whose text a registration holds."""
    from sweeps.study import parse_study

    source = folder.source(registration.sha256)
    return parse_study(registration.document["source"], source, source="registered study")


def _seen(document: dict[str, Any], folder: EvidenceFolder) -> bool:
    """Return whether rows here make held-out problems seen. A look in the ledger needs an amendment, so it is left to it."""
    for seen in (False, True):
        if folder.ledger.registered(make_registration({**document, "seen": seen}).sha256) is not None:
            return seen
    n = 0 if folder.ledger.seen_before(document) else _rows_of_heldout(document, folder)
    if n:
        make_progress("plain").note(
            f"{n} generations of held-out problems are in {folder.results} already: registered as seen"
        )
    return n > 0


def _rows_of_heldout(document: dict[str, Any], folder: EvidenceFolder) -> int:
    return n_rows_of(folder.rows(columns=list(COLUMNS)), known_by(heldout_problems(document))[1])


def _registered(study: Study, folder: EvidenceFolder, document: dict[str, Any]) -> tuple[Registration, Path]:
    overlaps = study.overlaps()
    if overlaps:
        raise ProtocolError("development and held-out problems overlap:\n" + "\n".join(overlaps))
    check_power(document)
    registration = make_registration(document)
    ResultsStore.open(folder.results)
    path = folder.file(registration.sha256, "registration")
    # The ledger first: what it refuses leaves no file behind, and whoever is killed between the two registers again.
    folder.ledger.register(registration, code=document["code"]["id"])
    folder.note_source(registration.sha256, study.folder)
    save(path, registration)
    return registration, path
