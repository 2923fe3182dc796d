"""Tuning ends once, with one selection, before any look."""

from __future__ import annotations

import hashlib
import json

import pytest

from designspace.errors import ProtocolError
from designspace.protocol.document import tuned_parameters
from designspace.protocol.heldout_key import open_look, resume_look
from designspace.protocol.looks import LookLedger
from designspace.protocol.registration import make_registration
from designspace.protocol.selection import Selection, freeze_selection, load_selection, selection_of
from tests.designspace.protocol.documents import ARMS, TUNED, TUNED_ARMS, document


@pytest.fixture
def registration():
    """A registration with one parameter to tune."""
    return make_registration(document(arms=TUNED_ARMS))


@pytest.fixture
def ledger(tmp_path, registration):
    """A ledger that knows it."""
    found = LookLedger(tmp_path / "ledger.jsonl")
    found.register(registration)
    return found


def chosen(registration, weight=0.5):
    """Return a selection."""
    return Selection(registration.sha256, {TUNED: weight}, {"trials": [{"number": 0, "score": 0.0075}]})


def test_placeholders_are_found_wherever_they_stand():
    """Within lists, and within the choices of another placeholder."""
    arms = {
        "a": {"scoring": {"weight": {"tune": {"low": 0, "high": 1}}}, "list": [1, {"tune": {"choices": [1]}}]},
        "b": {"selector": {"tune": {"choices": [{"kind": "x", "k": {"tune": {"choices": [1, 2]}}}]}}},
    }
    assert tuned_parameters({"arms": arms}) == [
        "a.scoring.weight", "a.list.1", "b.selector", "b.selector.tune.choices.0.k",
    ]  # fmt: skip


def test_hash_is_that_of_its_canonical_json(registration):
    """Recomputed here with nothing but a JSON library."""
    made = chosen(registration)
    text = json.dumps(made.to_json(), sort_keys=True, separators=(",", ":"))
    assert made.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert selection_of(made.to_json()) == made


def test_round_trip_and_ledger(tmp_path, registration, ledger):
    """Frozen twice is noted once."""
    made, path = chosen(registration), tmp_path / "selection.json"
    entry = freeze_selection(path, made, ledger, arms=ARMS)
    assert freeze_selection(path, made, ledger, arms=ARMS) == entry
    assert load_selection(path, ledger) == made
    assert [e.kind for e in ledger.entries()] == ["register", "select"]
    assert entry.details == {"selection": made.sha256, "values": {TUNED: 0.5}}


def test_a_lost_file_can_be_written_again(tmp_path, registration, ledger):
    """The ledger knows that it is the same."""
    made, path = chosen(registration), tmp_path / "selection.json"
    freeze_selection(path, made, ledger)
    path.unlink()
    freeze_selection(path, made, ledger)
    assert load_selection(path) == made


def test_look_carries_the_selection(tmp_path, registration, ledger):
    """And is resumed by it."""
    made = chosen(registration)
    freeze_selection(tmp_path / "s.json", made, ledger)
    key = open_look(ledger, registration, arms=ARMS, selection=made.sha256)
    assert ledger.entries()[-1].details == {"selection": made.sha256}
    again = resume_look(ledger, registration, arms=ARMS, selection=made.sha256)
    assert again is not None
    assert again.ledger_head == key.ledger_head


def test_only_plain_json(registration):
    """As all records."""
    with pytest.raises(ProtocolError, match="plain JSON"):
        Selection(registration.sha256, {TUNED: float("nan")}, {})


def test_a_file_is_written_once(tmp_path, registration, ledger):
    """Another selection is refused by the file too, whatever the ledger says."""
    freeze_selection(tmp_path / "s.json", chosen(registration, 1.0), ledger)
    other = LookLedger(tmp_path / "other.jsonl")
    other.register(registration)
    with pytest.raises(ProtocolError, match="must not be overwritten"):
        freeze_selection(tmp_path / "s.json", chosen(registration), other)


@pytest.mark.parametrize("content", ["{}", '{"sha256": "x", "selection": {}}', "no"])
def test_a_file_that_is_no_selection_says_so(tmp_path, content):
    """Every malformed file is named."""
    path = tmp_path / "selection.json"
    path.write_text(content)
    with pytest.raises(ProtocolError, match="selection"):
        load_selection(path)
