"""The look ledger: what it keeps, what it notices, and the key it gives out."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from designspace.errors import ProtocolError
from designspace.protocol.heldout_key import HeldoutKey, open_look, require_key, resume_look
from designspace.protocol.look_entry import LookedArm
from designspace.protocol.looks import LookLedger
from designspace.protocol.problem_records import heldout_hash
from designspace.protocol.registration import make_registration
from tests.designspace.protocol.documents import ARMS, HELDOUT, document


@pytest.fixture
def ledger(tmp_path):
    """A ledger that does not exist yet."""
    return LookLedger(tmp_path / "looks" / "ledger.jsonl")


@pytest.fixture
def registration():
    """The registration of the small study."""
    return make_registration(document())


def test_no_file_is_an_empty_ledger(ledger):
    """Nothing was ever noted."""
    assert ledger.entries() == []
    assert ledger.head() == "0" * 64
    assert not ledger.path.exists()


def test_entries_are_chained_by_the_hash_of_the_line_before(ledger):
    """Checked here with nothing but a JSON library."""
    for number in range(3):
        ledger.append("tune", registration="r", problem_ids=[f"p{number}"], arms=ARMS, user="me")
    lines = ledger.path.read_text().splitlines()
    previous = "0" * 64
    for number, line in enumerate(lines, start=1):
        content = json.loads(line)
        assert (content["n"], content["previous"]) == (number, previous)
        previous = hashlib.sha256(line.encode()).hexdigest()
    assert [entry.sha256 for entry in ledger.entries()][-1] == previous == ledger.head()
    assert json.loads((ledger.path.parent / "ledger.jsonl.head").read_text()) == {"n": 3, "sha256": previous}


def test_an_entry_keeps_its_facts(ledger):
    """What was appended is what is read."""
    made = ledger.append(
        "look",
        registration="r",
        heldout="h",
        problem_ids=["p"],
        contents=["c"],
        arms=ARMS,
        code="x",
        user="me",
        time="2026-01-01T00:00:00+00:00",
    )
    assert [made] == ledger.entries()
    assert (made.registration, made.heldout, made.problem_ids, made.contents) == ("r", "h", ("p",), ("c",))
    assert (made.arms, made.code, made.user, made.time) == (ARMS, "x", "me", "2026-01-01T00:00:00+00:00")


def test_a_clock_a_little_behind_is_no_cheat(ledger):
    """Machines that share a ledger agree within a minute; a line takes the time of the one before."""
    ahead = (datetime.now(UTC) + timedelta(seconds=30)).isoformat(timespec="seconds")
    ledger.append("tune", registration="one", time=ahead)
    assert ledger.append("tune", registration="two").time == ahead
    far = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    ledger.append("tune", registration="three", time=far)
    with pytest.raises(ProtocolError, match="one of the clocks that wrote it was wrong"):
        ledger.append("tune", registration="four")


def test_unknown_kind_is_refused(ledger):
    """Only six things can happen."""
    with pytest.raises(ProtocolError, match="kind must be one of"):
        ledger.append("peek", registration="r")


def test_many_writers_make_one_chain(ledger):
    """Appends at the same time wait for each other."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: LookLedger(ledger.path).append("tune", registration=str(i)), range(40)))
    assert {entry.registration for entry in ledger.entries()} == {str(i) for i in range(40)}


def test_a_line_without_an_end_is_dropped_at_the_next_append(ledger):
    """A process killed in the middle of a line had told nobody."""
    ledger.append("tune", registration="one")
    with ledger.path.open("ab") as stream:
        stream.write(b'{"n":2,"prev')
    assert [entry.registration for entry in ledger.entries()] == ["one"]
    ledger.append("tune", registration="two")
    assert [entry.registration for entry in ledger.entries()] == ["one", "two"]


def test_a_line_that_the_head_does_not_know_yet_stands(ledger):
    """A process killed between the two files had written the line."""
    ledger.append("tune", registration="one")
    head = ledger.path.with_name("ledger.jsonl.head")
    before = head.read_bytes()
    ledger.append("look", registration="two")
    head.write_bytes(before)
    assert [entry.registration for entry in ledger.entries()] == ["one", "two"]
    ledger.append("tune", registration="three")
    assert [entry.n for entry in ledger.entries()] == [1, 2, 3]


def test_killed_before_the_first_line(ledger):
    """The head is there first, and says zero."""
    ledger.append("tune", registration="one")
    ledger.path.with_name("ledger.jsonl.head").write_text('{"n":0,"sha256":"' + "0" * 64 + '"}')
    assert [entry.registration for entry in ledger.entries()] == ["one"]


def test_looks_are_those_of_the_same_problems(ledger):
    """Tuning is no look."""
    ledger.append("look", registration="r", heldout="h")
    ledger.append("tune", registration="r", heldout="h")
    ledger.append("look", registration="r", heldout="other")
    assert [entry.n for entry in ledger.looks("h")] == [1]


def test_looks_and_tuning_make_problems_seen(ledger, registration):
    """By id or by content; a selection or a registration does not."""
    contents = [problem["content"] for problem in registration.document["data"]["heldout"][0]["problems"]]
    ledger.append("look", registration="r", problem_ids=["confirm-7"])
    ledger.append("tune", registration="r", contents=contents[:1])
    ledger.append("select", registration="r", problem_ids=["confirm-7"])
    ledger.append("look", registration="r", problem_ids=["other"])
    assert [entry.n for entry in ledger.seen_before(registration.document)] == [1, 2]


def test_relatives_share_a_family_and_a_problem(ledger):
    """Which problems has any relative of this arm touched."""
    other = {"x": LookedArm("1" * 64, "snapkv")}
    ledger.append("tune", registration="r1", problem_ids=["p1", "p2"], arms=ARMS)
    ledger.append("look", registration="r2", problem_ids=["p2"], arms=other)
    ledger.append("look", registration="r3", problem_ids=["p3"], arms=ARMS)
    ledger.append("select", registration="r4", problem_ids=["p2"], arms=ARMS)
    found = ledger.relatives(["triattention"], ["p2", "p9"])
    assert [(r.entry.registration, r.arms, r.problem_ids) for r in found] == [("r1", ("alpha", "baseline"), ("p2",))]


def test_registering_twice_is_noted_once(ledger, registration):
    """The command can be run again."""
    assert ledger.register(registration) == ledger.register(registration)
    assert [entry.kind for entry in ledger.entries()] == ["register"]


def test_a_key_comes_after_its_entry(ledger, registration):
    """The look is on disk before anybody can load a held-out problem."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS, code="x")
    entry = ledger.entries()[-1]
    assert (entry.kind, entry.heldout) == ("look", heldout_hash(registration.document))
    assert entry.problem_ids == tuple(problem.problem_id for problem in HELDOUT)
    assert entry.arms == ARMS
    assert (key.look, key.ledger_head, key.registration) == (1, entry.sha256, registration.sha256)
    assert require_key(key, ledger, registration) is key


def test_no_entry_no_key(ledger, registration, monkeypatch):
    """A ledger that cannot be written opens nothing."""
    ledger.register(registration)
    monkeypatch.setattr("designspace.protocol.chain.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ProtocolError, match="cannot write"):
        open_look(ledger, registration, arms=ARMS)


def test_a_second_look_is_number_two(ledger, registration):
    """Each look counts, by whatever registration."""
    ledger.register(registration)
    assert open_look(ledger, registration, arms=ARMS).look == 1
    assert open_look(ledger, registration, arms=ARMS).look == 2


def test_going_on_with_an_interrupted_run_is_no_second_look(ledger, registration):
    """The same arms, code and problems give the same rows; anything else is a look of its own."""
    ledger.register(registration)
    assert resume_look(ledger, registration, arms=ARMS, code="x") is None
    key = open_look(ledger, registration, arms=ARMS, code="x", details={"note": "s"})
    again = resume_look(ledger, registration, arms=ARMS, code="x", details={"note": "s"})
    assert again is not None
    assert (again.look, again.ledger_head) == (key.look, key.ledger_head)
    assert resume_look(ledger, registration, arms=ARMS, code="y", details={"note": "s"}) is None
    assert resume_look(ledger, registration, arms=ARMS, code="x") is None
    changed = {**ARMS, "alpha": LookedArm("f" * 64, "triattention")}
    assert resume_look(ledger, registration, arms=changed, code="x", details={"note": "s"}) is None
    assert len(ledger.entries()) == 2


def test_an_amendment_is_noted_as_one(ledger, registration):
    """Linked by hash, its hypotheses added to the family."""
    ledger.register(registration)
    child = make_registration(document(parent=registration.sha256, amendment="a bug", m=8))
    entry = ledger.register(child)
    assert (entry.kind, entry.details["parent"], entry.details["amendment"]) == ("amend", registration.sha256, "a bug")


def test_a_key_is_for_one_registration(ledger, registration):
    """Another registration of the same problems needs its own look."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS)
    with pytest.raises(ProtocolError, match="must be for registration"):
        key.require(make_registration(document(alpha=0.01)))


def test_keys_are_not_made_by_hand():
    """The constructor is no way in."""
    with pytest.raises(ProtocolError, match="must come from open_look"):
        HeldoutKey(registration="r", heldout="h", look=1, ledger_head="0" * 64)
