"""What one line of the look ledger says, and that the lines follow each other in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from designspace.errors import ProtocolError
from designspace.protocol.chain import Link

Kind = Literal["register", "tune", "select", "look", "result", "amend"]
KINDS: tuple[str, ...] = get_args(Kind)
_CLOCKS_APART = timedelta(seconds=60)  # by which two machines that share a ledger may differ


@dataclass(frozen=True)
class LookedArm:
    """An arm as the ledger knows it.

    Attributes:
        mechanism: hash of its identity.
        family: kind of its scoring; arms of one family are relatives.
    """

    mechanism: str
    family: str


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        n: number of the line, from 1.
        previous: hash of the line before; zeros for the first.
        kind: what happened.
        registration: hash of the registration it belongs to.
        heldout: `heldout_hash` of its held-out problems; None where no problem was held out.
        problem_ids: the problems that the arms ran on, or that are held out from now on.
        contents: hashes by which these are known again under other ids (`designspace.protocol.recognition`).
        arms: name -> what ran.
        details: more facts of this kind, e.g. the hash of a selection.
        time: UTC, ISO 8601.
        user: who was logged in.
        code: id of the code.
        sha256: hash of the line; the ledger's head right after it.
    """

    n: int
    previous: str
    kind: Kind
    registration: str
    heldout: str | None
    problem_ids: tuple[str, ...]
    contents: tuple[str, ...]
    arms: Mapping[str, LookedArm]
    details: Mapping[str, Any]
    time: str
    user: str
    code: str | None
    sha256: str

    @property
    def is_confirmation(self) -> bool:
        """Whether this is a look by `confirm`; other looks name the command that showed the problems."""
        return self.kind == "look" and "command" not in self.details


class Relative(NamedTuple):
    """Earlier work on the same problems by arms of the same family; `problem_ids` are those under the same id."""

    entry: Entry
    arms: tuple[str, ...]
    problem_ids: tuple[str, ...]


def entry_of(path: Path, link: Link) -> Entry:
    """Read an entry; raise ProtocolError, naming the line, if it is none."""
    content = dict(link.content)
    try:
        arms = {name: LookedArm(**arm) for name, arm in content.pop("arms").items()}
        ids, contents = tuple(content.pop("problem_ids")), tuple(content.pop("contents"))
        return Entry(**content, arms=arms, problem_ids=ids, contents=contents, sha256=link.sha256)
    except (KeyError, TypeError, AttributeError):
        raise ProtocolError(f"{path}:{content.get('n')}: this line is no entry of a look ledger") from None


def check_order(path: Path, entries: Sequence[Entry]) -> None:
    """Raise ProtocolError, naming the line, where an entry is older than the one before it."""
    for earlier, later in pairwise(entries):
        if _moment(later.time) < _moment(earlier.time):
            raise ProtocolError(
                f"{path}:{later.n}: line {later.n} of the ledger must not be older than the line before, "
                f"got {later.time} after {earlier.time}"
            )


def time_after(last: Link | None, wanted: str | None) -> str:
    """Return the time of an entry that follows a line.

    Args:
        last: the line before; None for the first.
        wanted: the time to write; None takes now. Where this machine's clock is up to a minute behind the one that wrote
            the line before, that line's time is taken.

    Raises:
        ProtocolError: it is no time with a zone, or older than the line before.
    """
    found = wanted or datetime.now(UTC).isoformat(timespec="seconds")
    before = found if last is None else str(last.content.get("time"))
    behind = _moment(before) - _moment(found)
    if behind <= timedelta(0):
        return found
    if wanted is None and behind <= _CLOCKS_APART:
        return before
    raise ProtocolError(
        f"an entry of the ledger must not be older than the line before, got {found} after {before}: "
        "one of the clocks that wrote it was wrong"
    )


def _moment(text: str) -> datetime:
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found
    raise ProtocolError(f"the time of an entry must be ISO 8601 with a zone, got {text!r}")
