"""The key to held-out problems: given out once a look is noted in the ledger, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.document import tuned_parameters
from designspace.protocol.look_entry import Entry, LookedArm
from designspace.protocol.looks import LookLedger, touching
from designspace.protocol.problem_records import heldout_hash, heldout_problems, known_by
from designspace.protocol.registration import Registration

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
    ids, contents = known_by(heldout_problems(registration.document))
    tuned_on = touching(ledger.entries(), ids, contents, ("tune",))
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
        look=len(touching(until, entry.problem_ids, entry.contents)),
        ledger_head=entry.sha256,
        _token=_TOKEN,
    )
