"""The ledger of looks: who registered, tuned, selected, and looked at which held-out problems, in what order."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.chain import NOTHING, append_link, read_chain
from designspace.protocol.document import check_document, heldout_hash, heldout_problems, tuned_parameters
from designspace.protocol.look_entry import KINDS, Entry, Kind, LookedArm, Relative, entry_of
from designspace.protocol.registration import Registration

__all__ = [
    "Entry",
    "HeldoutKey",
    "LookLedger",
    "LookedArm",
    "Relative",
    "open_look",
    "require_key",
    "resume_look",
]


@dataclass(frozen=True)
class LookLedger:
    """The ledger in a file of JSON lines, hash-chained; the side file `<name>.head` says where it ends.

    Any number of processes may append at the same time, and read meanwhile.
    """

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))

    def entries(self) -> list[Entry]:
        """Return all entries in order; none where nothing was ever written.

        Raises:
            ProtocolError: the chain does not hold; the message names the first bad line.
        """
        return [entry_of(self.path, link) for link in read_chain(self.path)]

    def head(self) -> str:
        """Return the hash of the last line; zeros for an empty ledger."""
        links = read_chain(self.path)
        return links[-1].sha256 if links else NOTHING

    def append(
        self,
        kind: Kind,
        *,
        registration: str,
        heldout: str | None = None,
        problem_ids: Iterable[str] = (),
        contents: Iterable[str] = (),
        arms: Mapping[str, LookedArm] | None = None,
        details: Mapping[str, Any] | None = None,
        code: str | None = None,
        user: str | None = None,
        time: str | None = None,
    ) -> Entry:
        """Add an entry and return it once it is on disk.

        Args:
            kind: what happened.
            registration: hash of the registration it belongs to.
            heldout: hash of its held-out problems.
            problem_ids: what the arms run on.
            contents: content hashes of these problems.
            arms: name -> what runs.
            details: more facts of this kind, plain JSON.
            code: id of the code.
            user: None takes the one logged in.
            time: None takes now.

        Raises:
            ProtocolError: no such kind, or the ledger does not hold together.
        """
        if kind not in KINDS:
            raise ProtocolError(f"kind must be one of {', '.join(KINDS)}, got kind={kind!r}")
        facts = {
            "kind": kind,
            "registration": registration,
            "heldout": heldout,
            "problem_ids": list(problem_ids),
            "contents": list(contents),
            "arms": {name: asdict(arm) for name, arm in (arms or {}).items()},
            "details": dict(details or {}),
            "time": time or datetime.now(UTC).isoformat(timespec="seconds"),
            "user": user or _user(),
            "code": code,
        }
        return entry_of(self.path, append_link(self.path, facts))

    def register(self, registration: Registration, *, code: str | None = None, user: str | None = None) -> Entry:
        """Note a registration, or an amendment where it has a parent; return the entry that is there if it is noted.

        Raises:
            ProtocolError: the document breaks a rule, its parent was never registered, its family leaves out that of
                its parent, or it calls problems unseen that an earlier look has seen.
        """
        registration.check()
        check_document(registration.document)
        noted = [entry for entry in self.entries() if _registers(entry, registration.sha256)]
        if noted:
            return noted[0]
        document = registration.document
        if document["parent"] is not None:
            self._check_parent(document)
        self._check_unseen(document)
        return self.append(
            "register" if document["parent"] is None else "amend",
            registration=registration.sha256,
            heldout=heldout_hash(document),
            details={
                "study": document["study"], "parent": document["parent"], "amendment": document["amendment"],
                "m": document["m"], "hypotheses": len(document["hypotheses"]),
            },
            code=code,
            user=user,
        )  # fmt: skip

    def require_registered(self, registration: str) -> Entry:
        """Return the entry that registered a hash.

        Raises:
            ProtocolError: none did: a registration whose content and hash were both edited ends here.
        """
        for entry in self.entries():
            if _registers(entry, registration):
                return entry
        raise ProtocolError(f"registration {registration} is not in the ledger {self.path}: register it first")

    def selected(self, registration: str) -> Entry | None:
        """Return the entry that froze the selection of a registration; None where none was."""
        found = [entry for entry in self.entries() if entry.kind == "select" and entry.registration == registration]
        return found[0] if found else None

    def require_head(self, head: str) -> int:
        """Return the number of the line that had this hash as the ledger's head.

        Raises:
            ProtocolError: there is none: the ledger was shortened or rewritten after the head was noted elsewhere.
        """
        hashes = [NOTHING, *(entry.sha256 for entry in self.entries())]
        if head not in hashes:
            raise ProtocolError(f"the ledger {self.path} must hold the line {head}: it was shortened or rewritten")
        return hashes.index(head)

    def looks(self, heldout: str) -> list[Entry]:
        """Return the looks at a held-out set, by its hash."""
        return [entry for entry in self.entries() if entry.kind == "look" and entry.heldout == heldout]

    def looks_touching(self, problem_ids: Iterable[str], contents: Iterable[str] = ()) -> list[Entry]:
        """Return the looks at any of these problems, by id or by content; a set less one problem is not a new set."""
        return _touching(self.entries(), problem_ids, contents)

    def seen_before(self, document: Mapping[str, Any]) -> list[Entry]:
        """Return the looks and the tuning on any held-out problem of a document: with any of these, `seen` is true."""
        problems = heldout_problems(document)
        ids, contents = [problem["id"] for problem in problems], [problem["content"] for problem in problems]
        return _touching(self.entries(), ids, contents, ("look", "tune"))

    def relatives(self, arm_kinds: Iterable[str], problem_ids: Iterable[str]) -> list[Relative]:
        """Return earlier work, tuning included, by arms of these families on any of these problems."""
        families, problems = set(arm_kinds), set(problem_ids)
        found = []
        for entry in self.entries():
            arms = tuple(sorted(name for name, arm in entry.arms.items() if arm.family in families))
            shared = tuple(name for name in entry.problem_ids if name in problems)
            if entry.kind in ("look", "tune") and arms and shared:
                found.append(Relative(entry, arms, shared))
        return found

    def _check_parent(self, document: Mapping[str, Any]) -> None:
        parent = self.require_registered(document["parent"])
        needed = int(parent.details["m"])
        primary = sum(found.get("primary", True) is not False for found in document["hypotheses"])
        if document["m"] < needed + primary:
            raise ProtocolError(
                f"an amendment adds its hypotheses to the family: m must be at least {needed} + {primary}, "
                f"got m={document['m']}"
            )

    def _check_unseen(self, document: Mapping[str, Any]) -> None:
        earlier = self.seen_before(document)
        if earlier and not document["seen"]:
            raise ProtocolError(
                f"seen must be true: line {earlier[0].n} of the ledger is a {earlier[0].kind} on these held-out problems, "
                f"and {len(earlier) - 1} more, got seen=false"
            )


_TOKEN = object()


@dataclass(frozen=True, init=False, eq=False)
class HeldoutKey:
    """Leave to run on the held-out problems of one registration. Only `open_look` and `resume_look` give one out.

    Attributes:
        registration: hash of the registration it is for.
        heldout: `heldout_hash` of the problems it is for.
        look: how many looks have touched any of these problems, this one included.
        ledger_head: hash of the ledger's line that records this look.
    """

    registration: str
    heldout: str
    look: int
    ledger_head: str
    _token: object = field(repr=False)

    def __init__(self, *, registration: str, heldout: str, look: int, ledger_head: str, _token: object = None) -> None:
        if _token is not _TOKEN:
            raise ProtocolError("a HeldoutKey must come from open_look, which notes the look in the ledger first")
        for name, value in (
            ("registration", registration), ("heldout", heldout), ("look", look), ("ledger_head", ledger_head),
            ("_token", _token),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __reduce__(self) -> NoReturn:
        """Refuse copies and pickles: a key that can be kept is a look that nobody notes."""
        raise ProtocolError("a HeldoutKey must not be copied or stored")

    def require(self, registration: Registration) -> None:
        """Raise ProtocolError unless this key was given out for this registration and its held-out problems."""
        if getattr(self, "_token", None) is not _TOKEN:
            raise ProtocolError("a HeldoutKey must come from open_look, which notes the look in the ledger first")
        registration.check()
        heldout = heldout_hash(registration.document)
        if (self.registration, self.heldout) != (registration.sha256, heldout):
            raise ProtocolError(
                f"this key must be for registration {registration.sha256}, got one for {self.registration}"
            )


def open_look(
    ledger: LookLedger,
    registration: Registration,
    *,
    arms: Mapping[str, LookedArm],
    selection: str | None = None,
    code: str | None = None,
    details: Mapping[str, Any] | None = None,
    user: str | None = None,
    time: str | None = None,
) -> HeldoutKey:
    """Note a look at the held-out problems of a registration, and return the key to them once the note is on disk.

    Args:
        ledger: where to note it.
        registration: what it belongs to.
        arms: every arm that will run, with its tuned parameters in place.
        selection: hash of the selection that put them there; None where nothing is tuned.
        code: id of the code.
        details: further facts, plain JSON.
        user: None takes the one logged in.
        time: None takes now.

    Raises:
        ProtocolError: the registration changed or is not in the ledger, the arms are not those registered, the
            selection is missing or not the one that was frozen, or the ledger does not hold together.
    """
    registration.check()
    registered = ledger.require_registered(registration.sha256)
    if set(arms) != set(registration.document["arms"]):
        raise ProtocolError(
            f"a look must be at the registered arms, {', '.join(sorted(registration.document['arms']))}, "
            f"got {', '.join(sorted(arms)) or 'none'}"
        )
    _check_selection(ledger, registration, selection)
    heldout = heldout_hash(registration.document)
    if registered.heldout != heldout:
        raise ProtocolError(f"the held-out problems must be those registered, {registered.heldout}, got {heldout}")
    problems = heldout_problems(registration.document)
    ids, contents = [problem["id"] for problem in problems], [problem["content"] for problem in problems]
    tuned_on = _touching(ledger.entries(), ids, contents, ("tune",))
    if tuned_on and not registration.document["seen"]:
        raise ProtocolError(f"held-out problems must not be tuned on, got line {tuned_on[0].n} of the ledger")
    entry = ledger.append(
        "look",
        registration=registration.sha256,
        heldout=heldout,
        problem_ids=ids,
        contents=contents,
        arms=arms,
        details=_look_details(selection, details),
        code=code,
        user=user,
        time=time,
    )
    return _key(ledger, entry)


def resume_look(
    ledger: LookLedger,
    registration: Registration,
    *,
    arms: Mapping[str, LookedArm],
    selection: str | None = None,
    code: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> HeldoutKey | None:
    """Return the key of the newest look of exactly these facts, to go on with a run that was interrupted.

    The same arms on the same problems by the same code give the same rows, so going on is not another look. None where
    there is no such look: open one.

    Raises:
        ProtocolError: the registration changed, or the ledger does not hold together.
    """
    registration.check()
    facts = canonical_json(_look_details(selection, details))
    wanted = (registration.sha256, heldout_hash(registration.document), dict(arms), code, facts)
    for entry in reversed(ledger.entries()):
        found = (entry.registration, entry.heldout, dict(entry.arms), entry.code, canonical_json(entry.details))
        if entry.kind == "look" and found == wanted:
            return _key(ledger, entry)
    return None


def require_key(key: object, ledger: LookLedger, registration: Registration) -> HeldoutKey:
    """Return the key if it is one for this registration and the ledger holds the look that it stands for.

    Raises:
        ProtocolError: it was forged, is for something else, or its look is not in the ledger.
    """
    if not isinstance(key, HeldoutKey):
        raise ProtocolError(f"a HeldoutKey must be shown, got {type(key).__name__}")
    key.require(registration)
    for entry in ledger.entries():
        if entry.sha256 == key.ledger_head and entry.kind == "look" and entry.registration == key.registration:
            return key
    raise ProtocolError(f"the look of this key, line {key.ledger_head}, must be in the ledger {ledger.path}")


def _check_selection(ledger: LookLedger, registration: Registration, selection: str | None) -> None:
    entry = ledger.selected(registration.sha256)
    frozen = None if entry is None else entry.details.get("selection")
    tuned = tuned_parameters(registration.document)
    if tuned and frozen is None:
        raise ProtocolError(f"what is tuned must be selected before a look, got no selection of {', '.join(tuned)}")
    if frozen != selection:
        raise ProtocolError(f"a look must be at the selection that was frozen, {frozen}, got {selection}")


def _look_details(selection: str | None, details: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(details or {}), **({} if selection is None else {"selection": selection})}


def _key(ledger: LookLedger, entry: Entry) -> HeldoutKey:
    until = [earlier for earlier in ledger.entries() if earlier.n <= entry.n]
    return HeldoutKey(
        registration=entry.registration,
        heldout=str(entry.heldout),
        look=len(_touching(until, entry.problem_ids, entry.contents)),
        ledger_head=entry.sha256,
        _token=_TOKEN,
    )


def _touching(
    entries: Iterable[Entry], problem_ids: Iterable[str], contents: Iterable[str], kinds: Iterable[str] = ("look",)
) -> list[Entry]:
    ids, hashes = set(problem_ids), set(contents)
    return [
        entry
        for entry in entries
        if entry.kind in kinds and not (ids.isdisjoint(entry.problem_ids) and hashes.isdisjoint(entry.contents))
    ]


def _registers(entry: Entry, registration: str) -> bool:
    return entry.kind in ("register", "amend") and entry.registration == registration


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"
