"""Where the protocol of a results folder lies: the look ledger, and one file per document beside it."""

from __future__ import annotations

from pathlib import Path

from designspace.protocol.looks import LookLedger

FOLDER = "protocol"


def ledger_in(results: str | Path) -> LookLedger:
    """Return the look ledger of a results folder, one for all registrations in it."""
    return LookLedger(Path(results) / FOLDER / "looks.jsonl")


def document_in(results: str | Path, sha256: str, what: str) -> Path:
    """Return the path of a document of a registration: `registration`, `selection`, `report`."""
    return Path(results) / FOLDER / f"{sha256[:16]}.{what}.json"
