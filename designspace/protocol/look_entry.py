"""What one line of the ledger of looks says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from designspace.errors import ProtocolError
from designspace.protocol.chain import Link

Kind = Literal["register", "tune", "select", "look", "amend"]
KINDS: tuple[str, ...] = get_args(Kind)


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
        problem_ids: problems that the arms ran on.
        contents: content hashes of these, so that a new name does not make a problem unseen.
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


class Relative(NamedTuple):
    """Earlier work on the same problems by arms of the same family."""

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
        raise ProtocolError(f"{path}:{content.get('n')}: this line is no entry of a ledger of looks") from None
