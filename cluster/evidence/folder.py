"""Where a study's protocol is kept: beside its results, one file per document, named by the registration's hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from designspace.errors import ProtocolError
from designspace.protocol import LookLedger, Registration, load

_NAME = "protocol"


@dataclass(frozen=True)
class EvidenceFolder:
    """The folder `protocol` of a results store."""

    results: Path

    @staticmethod
    def around(registration: str | Path) -> EvidenceFolder:
        """Return the folder that a registration file lies in.

        Raises:
            ProtocolError: it lies elsewhere, away from its ledger and its results.
        """
        folder = Path(registration).resolve().parent
        if folder.name != _NAME:
            raise ProtocolError(f"a registration must lie in the folder {_NAME!r} of its results, got {registration}")
        return EvidenceFolder(folder.parent)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.results / _NAME

    @property
    def ledger(self) -> LookLedger:
        """The look ledger, one for all registrations of these results."""
        return LookLedger(self.path / "looks.jsonl")

    def file(self, sha256: str, what: str) -> Path:
        """Return the path of a document of a registration: `registration`, `selection`, `report`."""
        return self.path / f"{sha256[:16]}.{what}.json"

    def note_source(self, sha256: str, folder: Path) -> None:
        """Remember the folder that relative paths of a study file start from. Not part of what is registered."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{sha256[:16]}.folder").write_text(f"{folder.resolve()}\n", encoding="utf-8")

    def source(self, sha256: str) -> Path:
        """Return that folder; the working folder where nothing is noted."""
        file = self.path / f"{sha256[:16]}.folder"
        return Path(file.read_text(encoding="utf-8").strip()) if file.is_file() else Path()


def opened(path: str | Path) -> tuple[EvidenceFolder, Registration]:
    """Return a registration that stands in its ledger, and its folder.

    Raises:
        ProtocolError: it was edited, is not in the ledger, or the ledger does not hold together.
    """
    folder, registration = EvidenceFolder.around(path), load(path)
    folder.ledger.require_registered(registration.sha256)
    return folder, registration
