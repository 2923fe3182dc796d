"""The registration: everything a study promises before it looks at the held-out problems, as one hashed document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError, RegistrationMismatch, UnreadableDocument
from designspace.protocol.document import check_document
from designspace.store.commit import atomic_bytes


@dataclass(frozen=True)
class Registration:
    """A registered document and its hash.

    Attributes:
        document: plain JSON data, see `designspace.protocol.document`. Treat it as read-only: whoever relies on it
            calls `check` first.
        sha256: of the document's canonical JSON.

    Raises:
        ProtocolError: the hash is not that of the document.
    """

    document: dict[str, Any]
    sha256: str

    def __post_init__(self) -> None:
        """Check that hash and document belong together."""
        self.check()

    def check(self) -> None:
        """Raise ProtocolError unless the document still has the registered hash."""
        found = document_hash(self.document)
        if found != self.sha256:
            raise ProtocolError(
                f"a registration must not change: its hash must be {self.sha256}, the content has {found}"
            )


@dataclass(frozen=True)
class Difference:
    """One place at which what is here now differs from what was registered.

    Attributes:
        path: dotted, with the position in brackets for lists: `data.heldout[0].content`.
        registered: the registered value; `ABSENT` where there was none.
        live: the value now; `ABSENT` where there is none.
    """

    path: str
    registered: Any
    live: Any

    def __str__(self) -> str:
        """Return e.g. `generation.max_new_tokens: registered 320, now 512`."""
        return f"{self.path or 'document'}: registered {_shown(self.registered)}, now {_shown(self.live)}"


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a document.

    Raises:
        ProtocolError: it holds something that JSON cannot say, NaN and infinities included.
    """
    try:
        return hashlib.sha256(canonical_json(document).encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a registration must be plain JSON: {error}") from error


def make_registration(document: Mapping[str, Any]) -> Registration:
    """Return the registration of a document; later changes to the argument do not reach it.

    Raises:
        ProtocolError: the document is not plain JSON.
    """
    sha256 = document_hash(document)
    return Registration(json.loads(canonical_json(document)), sha256)


def save(path: str | Path, registration: Registration) -> None:
    """Write a registration file, whole or not at all; writing the same content again changes nothing.

    Raises:
        ProtocolError: the document breaks a rule of registrations, or the file holds another one. A registration is
            never overwritten: an amendment is a registration of its own.
        StoreError: the file system refused.
    """
    registration.check()
    check_document(registration.document)
    path = Path(path)
    if path.exists():
        found = load(path)
        if found.sha256 != registration.sha256:
            raise ProtocolError(
                f"{path} must not be overwritten: it holds registration {found.sha256}, "
                f"got registration {registration.sha256} (amend instead)"
            )
        return
    text = json.dumps(
        {"sha256": registration.sha256, "registration": registration.document}, indent=1, ensure_ascii=False
    )
    atomic_bytes(path, f"{text}\n".encode(), path.parent)


def load(path: str | Path) -> Registration:
    """Read a registration file.

    A file whose content and hash were both edited reads well here; the ledger knows the hash that was registered
    (`LookLedger.require_registered`).

    Raises:
        ProtocolError: there is no such file, it is not a registration, or its hash is not that of its content.
    """
    stored = read_json(path, "registration")
    if set(stored) != {"sha256", "registration"} or not isinstance(stored["registration"], dict):
        raise ProtocolError(f"{path}: a registration file must hold sha256 and registration, got {sorted(stored)}")
    found = document_hash(stored["registration"])
    if found != stored["sha256"]:
        raise ProtocolError(f"{path} was edited: it says registration {stored['sha256']}, its content is {found}")
    registration = Registration(stored["registration"], found)
    check_document(registration.document)
    return registration


def differences(registered: Mapping[str, Any], live: Mapping[str, Any]) -> list[Difference]:
    """Return where two documents differ, in the order of the dotted paths."""
    return list(_differences("", _plain(registered), _plain(live)))


def require_same(registered: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    """Raise RegistrationMismatch, carrying all differences, unless both documents say the same."""
    found = differences(registered, live)
    if found:
        raise RegistrationMismatch(found)


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        UnreadableDocument: there is no file, or it is not one JSON object with every key once.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableDocument(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"{path}: a {what} must be UTF-8 text: {error}") from error
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableDocument(f"{path}: a {what} must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableDocument(f"{path}: a {what} must be a JSON object, got {type(found).__name__}")
    return found


def parse_json(text: str) -> Any:
    """Parse JSON; raise ValueError for anything odd, a key given twice included: a reader would see one, code the other."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = sorted({key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1})
        raise ValueError(f"key {repeated[0]!r} is given twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _plain(document: Mapping[str, Any]) -> Any:
    return json.loads(canonical_json(document))


def _differences(path: str, registered: Any, live: Any) -> Iterator[Difference]:
    if isinstance(registered, dict) and isinstance(live, dict):
        for key in sorted({*registered, *live}):
            place = f"{path}.{key}" if path else key
            yield from _differences(place, registered.get(key, ABSENT), live.get(key, ABSENT))
    elif isinstance(registered, list) and isinstance(live, list):
        for index in range(max(len(registered), len(live))):
            sides = (side[index] if index < len(side) else ABSENT for side in (registered, live))
            yield from _differences(f"{path}[{index}]", *sides)
    elif type(registered) is not type(live) or registered != live:
        yield Difference(path, registered, live)


def _shown(value: Any) -> str:
    text = repr(value) if value is ABSENT or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
