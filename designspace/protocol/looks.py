"""The look ledger: who registered, tuned, selected, and looked at which held-out problems, in what order."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.chain import NOTHING, append_link, read_chain
from designspace.protocol.document import check_document
from designspace.protocol.look_entry import KINDS, Entry, Kind, LookedArm, Relative, check_order, entry_of, time_after
from designspace.protocol.problem_records import heldout_hash, heldout_problems, known_by
from designspace.protocol.registration import Registration


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
            ProtocolError: the chain or the order of time does not hold; the message names the first bad line.
        """
        found = [entry_of(self.path, link) for link in read_chain(self.path)]
        check_order(self.path, found)
        return found

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
            problem_ids: what the arms run on, or what is held out from now on.
            contents: hashes that these problems are known by.
            arms: name -> what runs.
            details: more facts of this kind, plain JSON.
            code: id of the code.
            user: None takes the one logged in.
            time: None takes now; see `time_after`.

        Raises:
            ProtocolError: no such kind, a time before that of the line before, or the ledger does not hold together.
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
            "user": user or _user(),
            "code": code,
        }
        link = append_link(self.path, lambda last: {**facts, "time": time_after(last, time)})
        return entry_of(self.path, link)

    def register(self, registration: Registration, *, code: str | None = None, user: str | None = None) -> Entry:
        """Note a registration, or an amendment where it has a parent; return the entry that is there if it is noted.

        Raises:
            ProtocolError: the document breaks a rule, its parent was never registered, its family leaves out that of
                its parent, or it calls problems unseen that an earlier look has seen.
        """
        registration.check()
        check_document(registration.document)
        noted = self.registered(registration.sha256)
        if noted is not None:
            return noted
        document = registration.document
        if document["parent"] is not None:
            self._check_parent(document)
        self._check_unseen(document)
        ids, contents = known_by(heldout_problems(document))
        return self.append(
            "register" if document["parent"] is None else "amend",
            registration=registration.sha256,
            heldout=heldout_hash(document),
            problem_ids=ids,
            contents=contents,
            details={
                "study": document["study"], "parent": document["parent"], "amendment": document["amendment"],
                "m": document["m"], "hypotheses": len(document["hypotheses"]), "seen": document["seen"],
            },
            code=code,
            user=user,
        )  # fmt: skip

    def require_registered(self, registration: str) -> Entry:
        """Return the entry that registered a hash.

        Raises:
            ProtocolError: none did: a registration whose content and hash were both edited ends here.
        """
        found = self.registered(registration)
        if found is None:
            raise ProtocolError(f"registration {registration} is not in the ledger {self.path}: register it first")
        return found

    def registered(self, registration: str) -> Entry | None:
        """Return the entry that registered a hash; None where none did."""
        found = [e for e in self.entries() if e.kind in ("register", "amend") and e.registration == registration]
        return found[0] if found else None

    def selected(self, registration: str) -> Entry | None:
        """Return the entry that froze the selection of a registration; None where none was."""
        found = [entry for entry in self.entries() if entry.kind == "select" and entry.registration == registration]
        return found[0] if found else None

    def result(self, look_sha256: str) -> Entry | None:
        """Return the entry that sealed the result of a look; None where none was."""
        found = [e for e in self.entries() if e.kind == "result" and e.details.get("look") == look_sha256]
        return found[0] if found else None

    def seal(self, look_sha256: str, seal: Mapping[str, Any], report_sha256: str, *, code: str | None = None) -> Entry:
        """Note the result of a look, once: the seal of its rows and the hash of its report.

        Raises:
            ProtocolError: the look is not in the ledger, or has another result.
        """
        self.require_looks([look_sha256])
        look = next(entry for entry in self.entries() if entry.sha256 == look_sha256)
        details = {"look": look_sha256, "report": report_sha256, "seal": dict(seal)}
        noted = self.result(look_sha256)
        if noted is None:
            return self.append(
                "result", registration=look.registration, heldout=look.heldout, details=details, code=code
            )
        if canonical_json(noted.details) != canonical_json(details):
            raise ProtocolError(f"one result to a look: line {noted.n} of the ledger seals another")
        return noted

    def unfinished(self) -> set[str]:
        """Return the hashes of the confirmations whose result is not sealed yet."""
        entries = self.entries()
        sealed = {entry.details.get("look") for entry in entries if entry.kind == "result"}
        return {entry.sha256 for entry in entries if entry.is_confirmation} - sealed

    def require_looks(self, looks: Iterable[str]) -> None:
        """Check that the ledger holds the looks that rows were made under.

        Raises:
            ProtocolError: it lacks one: an older ledger, or a new one, stands in the place of theirs.
        """
        missing = set(looks) - {entry.sha256 for entry in self.entries() if entry.kind == "look"}
        if missing:
            raise ProtocolError(
                f"the ledger {self.path} must hold every look that rows here were made under, but lacks "
                f"{sorted(missing)[0]}: it was shortened, or another ledger stands in its place"
            )

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
        return touching(self.entries(), problem_ids, contents)

    def seen_before(self, document: Mapping[str, Any]) -> list[Entry]:
        """Return the looks and the tuning on any held-out problem of a document: with any of these, `seen` is true."""
        return touching(self.entries(), *known_by(heldout_problems(document)), ("look", "tune"))

    def relatives(
        self, arm_kinds: Iterable[str], problem_ids: Iterable[str], contents: Iterable[str] = ()
    ) -> list[Relative]:
        """Return earlier work, tuning included, by arms of these families on any of these problems."""
        families, problems = set(arm_kinds), set(problem_ids)
        found = []
        for entry in touching(self.entries(), problems, contents, ("look", "tune")):
            arms = tuple(sorted(name for name, arm in entry.arms.items() if arm.family in families))
            shared = tuple(name for name in entry.problem_ids if name in problems)
            if arms:
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


def touching(
    entries: Iterable[Entry], problem_ids: Iterable[str], contents: Iterable[str], kinds: Iterable[str] = ("look",)
) -> list[Entry]:
    """Return the entries of some kinds that are about any of these problems, by id or by content."""
    ids, hashes = set(problem_ids), set(contents)
    return [
        entry
        for entry in entries
        if entry.kind in kinds and not (ids.isdisjoint(entry.problem_ids) and hashes.isdisjoint(entry.contents))
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"
