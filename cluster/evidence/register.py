"""Freeze a study: its document, hashed, in the ledger before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.evidence.design_power import check_power
from cluster.evidence.folder import EvidenceFolder, opened
from cluster.evidence.live import live_document
from cluster.run import default_results
from designspace.errors import ProtocolError
from designspace.protocol import Registration, make_registration, save
from designspace.store import ResultsStore
from sweeps.study import Study, load_study


def register(
    file: str | Path, results: str | Path | None = None, *, underpowered: str | None = None
) -> tuple[Registration, Path]:
    """Register a study file; registering the same again returns what is there.

    Args:
        file: the study.
        results: folder of the store; by default `results/<study>`.
        underpowered: why it is registered although the smallest effect of interest would mostly be missed.

    Raises:
        DeclarationError: the file is no valid study.
        ProtocolError: development and held-out problems overlap, the held-out ones were looked at before (amend), or the
            power is too small and no reason is given; or the test draws too few resamples to reject anything.
    """
    study = load_study(file)
    folder = EvidenceFolder(Path(results) if results is not None else default_results(study.name))
    return _registered(study, folder, live_document(study, override=underpowered))


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
    seen = bool(folder.ledger.seen_before({"data": study.data_records()}))
    document = live_document(
        study, parent=parent.document, parent_sha256=parent.sha256, reason=reason, seen=seen, override=underpowered
    )
    return _registered(study, folder, document)


def study_of(registration: Registration, folder: EvidenceFolder) -> Study:
    """Return the study whose text a registration holds."""
    from sweeps.study import parse_study

    source = folder.source(registration.sha256)
    return parse_study(registration.document["source"], source, source="registered study")


def _registered(study: Study, folder: EvidenceFolder, document: dict[str, Any]) -> tuple[Registration, Path]:
    overlaps = study.overlaps()
    if overlaps:
        raise ProtocolError("development and held-out problems overlap:\n" + "\n".join(overlaps))
    check_power(document)
    registration = make_registration(document)
    ResultsStore.open(folder.results)
    path = folder.file(registration.sha256, "registration")
    folder.note_source(registration.sha256, study.folder)
    save(path, registration)
    folder.ledger.register(registration, code=document["code"]["id"])
    return registration, path
