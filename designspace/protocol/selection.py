"""The selection: what tuning chose, frozen once for each registration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.look_entry import Entry, LookedArm
from designspace.protocol.looks import LookLedger
from designspace.protocol.registration import read_json
from designspace.store.commit import atomic_bytes


@dataclass(frozen=True)
class Selection:
    """A tuning outcome.

    Attributes:
        registration: hash of the registration it belongs to.
        values: what was chosen, by id of the parameter: `alpha.scoring.selector.weight`.
        evidence: what it was chosen from: trials, their scores, the cells they ran, how sure the choice is.

    Raises:
        ProtocolError: values or evidence are not plain JSON.
    """

    registration: str
    values: dict[str, Any]
    evidence: dict[str, Any]

    def __post_init__(self) -> None:
        """Make it plain JSON, and its own."""
        try:
            for name in ("values", "evidence"):
                object.__setattr__(self, name, json.loads(canonical_json(getattr(self, name))))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a selection must be plain JSON: {error}") from error

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self.to_json()).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data: what a file holds and what `analyse` takes."""
        return {"registration": self.registration, "values": self.values, "evidence": self.evidence}


def freeze_selection(
    path: str | Path,
    selection: Selection,
    ledger: LookLedger,
    *,
    arms: Mapping[str, LookedArm] | None = None,
    code: str | None = None,
    user: str | None = None,
) -> Entry:
    """Note a selection in the ledger and write its file; the same selection again changes nothing.

    Args:
        path: of the file.
        selection: what was chosen.
        ledger: where its registration is noted.
        arms: every arm, with what was chosen in place.
        code: id of the code.
        user: None takes the one logged in.

    Raises:
        ProtocolError: another selection was frozen for this registration, the held-out problems were looked at before,
            or the registration is not in the ledger. The ledger remembers where the file is gone.
        StoreError: the file system refused.
    """
    path = Path(path)
    ledger.require_registered(selection.registration)
    if path.exists() and load_selection(path).sha256 != selection.sha256:
        raise ProtocolError(f"{path} must not be overwritten: it holds another selection, got {selection.sha256}")
    entry = ledger.selected(selection.registration)
    if entry is not None and entry.details.get("selection") != selection.sha256:
        raise ProtocolError(
            f"one selection to a registration: line {entry.n} of the ledger froze "
            f"{entry.details.get('selection')}, got {selection.sha256}"
        )
    if entry is None:
        _refuse_after_look(selection, ledger)
        details = {"selection": selection.sha256, "values": selection.values}
        entry = ledger.append(
            "select", registration=selection.registration, arms=arms, details=details, code=code, user=user
        )
    _write(path, selection)
    return entry


def load_selection(path: str | Path, ledger: LookLedger | None = None) -> Selection:
    """Read a selection.

    Args:
        path: of the file.
        ledger: if given, the selection must be the one that it froze.

    Raises:
        ProtocolError: there is no such file, it is no selection, it was edited, or the ledger froze another.
    """
    stored = read_json(path, "selection")
    if set(stored) != {"sha256", "selection"} or not isinstance(stored["selection"], dict):
        raise ProtocolError(f"{path}: a selection file must hold sha256 and selection, got {sorted(stored)}")
    found = selection_of(stored["selection"])
    if found.sha256 != stored["sha256"]:
        raise ProtocolError(f"{path} was edited: it says selection {stored['sha256']}, its content is {found.sha256}")
    if ledger is not None:
        entry = ledger.selected(found.registration)
        if entry is None or entry.details.get("selection") != found.sha256:
            frozen = "none" if entry is None else entry.details.get("selection")
            raise ProtocolError(f"{path} must be the selection that the ledger froze, {frozen}, got {found.sha256}")
    return found


def selection_of(data: Mapping[str, Any]) -> Selection:
    """Return the selection in plain JSON data.

    Raises:
        ProtocolError: the data is no selection.
    """
    try:
        return Selection(str(data["registration"]), dict(data["values"]), dict(data["evidence"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a selection must hold registration, values and evidence, got {sorted(data)}") from error


def _refuse_after_look(selection: Selection, ledger: LookLedger) -> None:
    looks = [e for e in ledger.entries() if e.is_confirmation and e.registration == selection.registration]
    registered = ledger.require_registered(selection.registration)
    if registered.details.get("seen") is False:  # where they were seen before, other looks are nothing new
        looks += ledger.looks_touching(registered.problem_ids, registered.contents)
    if looks:
        raise ProtocolError(f"a selection must come before any look, got a look in line {looks[0].n} of the ledger")


def _write(path: Path, selection: Selection) -> None:
    text = json.dumps({"sha256": selection.sha256, "selection": selection.to_json()}, indent=1, ensure_ascii=False)
    atomic_bytes(path, f"{text}\n".encode(), path.parent)
