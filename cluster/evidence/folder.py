"""Where a study's protocol is kept: beside its results, one file per document, named by the registration's hash."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from designspace.errors import ProtocolError, UnreadableDocument
from designspace.protocol import HeldoutKey, LookLedger, Registration, load
from designspace.protocol.places import FOLDER, document_in, ledger_in
from designspace.protocol.registration import read_json
from designspace.store import RESULTS_SCHEMA, ResultsStore


@dataclass(frozen=True)
class EvidenceFolder:
    """The folder `protocol` of a results store."""

    results: Path

    @staticmethod
    def around(registration: str | Path) -> EvidenceFolder:
        """Return the folder that a registration file lies in.

        Raises:
            UnreadableDocument: it lies elsewhere, away from its ledger and its results.
        """
        folder = Path(registration).resolve().parent
        if folder.name != FOLDER:
            raise UnreadableDocument(
                f"a registration must lie in the folder {FOLDER!r} of its results, got {registration}"
            )
        return EvidenceFolder(folder.parent)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.results / FOLDER

    @property
    def ledger(self) -> LookLedger:
        """The look ledger, one for all registrations of these results."""
        return ledger_in(self.results)

    def file(self, sha256: str, what: str) -> Path:
        """Return the path of a document of a registration: `registration`, `selection`, `report`."""
        return document_in(self.results, sha256, what)

    def report_file(self, key: HeldoutKey) -> Path:
        """Return the path of the report of a look: a later look of the same registration has a file of its own."""
        looks = [e.sha256 for e in self.ledger.entries() if e.is_confirmation and e.registration == key.registration]
        return self.file(key.registration, "report" if key.ledger_head == looks[0] else f"look-{key.look}.report")

    def rows(
        self,
        cell_ids: Collection[str] | None = None,
        columns: list[str] | None = None,
        graders: Collection[str] = (),
    ) -> pa.Table:
        """Return the rows of some cells, or of all; none where there is no store yet. One grader: with its grades."""
        if not self.results.is_dir() or not any(self.results.iterdir()):
            return pa.schema([RESULTS_SCHEMA.field(name) for name in columns or RESULTS_SCHEMA.names]).empty_table()
        grader = next(iter(graders)) if len(graders) == 1 else None
        store = ResultsStore.open(self.results, create=False)
        return store.samples(columns, cell_ids=cell_ids, grader_id=grader).to_table()

    def require_own_ledger(self) -> None:
        """Check that the ledger is the one of the rows, selections and reports here.

        Raises:
            ProtocolError: it lacks something that they rest on: an older ledger, or a new one, stands in its place.
        """
        entries = self.ledger.entries()
        self.ledger.require_looks(set(self.rows(columns=["look_sha256"])["look_sha256"].unique().to_pylist()) - {None})
        selections = {entry.details.get("selection") for entry in entries if entry.kind == "select"}
        results = {entry.details.get("look") for entry in entries if entry.kind == "result"}
        for path, stored in self._documents("selection"):
            if "sha256" in stored and stored["sha256"] not in selections:
                raise ProtocolError(f"{path} must be a selection that the ledger froze, got {stored['sha256']}")
        for path, stored in self._documents("report"):
            registered = self.ledger.require_registered(str(stored.get("registration")))
            if registered.contents and stored.get("ledger_head") not in results:  # earlier versions sealed no results
                raise ProtocolError(
                    f"{path} must be of a look whose result the ledger seals: {self.ledger.path} has none"
                )

    def note_source(self, sha256: str, folder: Path) -> None:
        """Remember the folder that relative paths of a study file start from. Not part of what is registered."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{sha256[:16]}.folder").write_text(f"{folder.resolve()}\n", encoding="utf-8")

    def source(self, sha256: str) -> Path:
        """Return that folder; the working folder where nothing is noted."""
        file = self.path / f"{sha256[:16]}.folder"
        return Path(file.read_text(encoding="utf-8").strip()) if file.is_file() else Path()

    def _documents(self, what: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self.path.glob(f"*.{what}.json")):
            yield path, read_json(path, what)


def opened(path: str | Path) -> tuple[EvidenceFolder, Registration]:
    """Return a registration that stands in its ledger, and its folder.

    Raises:
        ProtocolError: it was edited, is not in the ledger, or the ledger does not hold together or is not that of the
            rows.
    """
    folder, registration = EvidenceFolder.around(path), load(path)
    folder.ledger.require_registered(registration.sha256)
    folder.require_own_ledger()
    return folder, registration
