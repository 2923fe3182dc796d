"""A registration is one hashed document that nobody changes unseen."""

from __future__ import annotations

import hashlib
import json

import pytest

from designspace.errors import ProtocolError, RegistrationMismatch
from designspace.protocol.document import check_document
from designspace.protocol.looks import LookLedger
from designspace.protocol.problem_records import heldout_hash
from designspace.protocol.registration import (
    ABSENT,
    Difference,
    Registration,
    differences,
    load,
    make_registration,
    require_same,
    save,
)
from tests.designspace.protocol.documents import HELDOUT, document, hypothesis


def test_hash_is_that_of_sorted_json_without_spaces():
    """The hash can be recomputed with nothing but a JSON library."""
    made = make_registration({"b": [1, None], "a": "é"})
    assert made.sha256 == hashlib.sha256('{"a":"é","b":[1,null]}'.encode()).hexdigest()


def test_whole_numbers_hash_alike_however_they_were_read():
    """`1.0` from one reader and `1` from another are the same promise."""
    assert make_registration({"a": 1.0}).sha256 == make_registration({"a": 1}).sha256


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_only_plain_json_is_registered(value):
    """What JSON cannot say cannot be promised."""
    with pytest.raises(ProtocolError, match="plain JSON"):
        make_registration({"a": value})


def test_registration_does_not_follow_the_document_it_was_made_of():
    """Changing the source afterwards changes nothing."""
    source = document()
    made = make_registration(source)
    source["hypotheses"][0]["budget"] = "1"
    made.check()
    assert made.document == document()


def test_file_round_trip(tmp_path):
    """What was saved is what is loaded; saving it again is no error."""
    made = make_registration(document())
    save(tmp_path / "deep" / "registration.json", made)
    save(tmp_path / "deep" / "registration.json", made)
    assert load(tmp_path / "deep" / "registration.json") == made


def test_another_registration_is_not_overwritten(tmp_path):
    """The first file stays as it is."""
    path = tmp_path / "registration.json"
    save(path, make_registration(document()))
    before = path.read_bytes()
    with pytest.raises(ProtocolError, match="must not be overwritten"):
        save(path, make_registration(document(alpha=0.1)))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"sha256": "x", "registration": []}',
        '{"sha256": "x", "registration": {}, "more": 1}',
        "\xff",
        '{"sha256": "x", "registration": {"a": NaN}}',
    ],
)
def test_a_file_that_is_no_registration_says_so(tmp_path, content):
    """Every malformed file is a ProtocolError with its name in it."""
    path = tmp_path / "registration.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ProtocolError, match=r"registration\.json"):
        load(path)


def test_missing_file_is_named(tmp_path):
    """A file that is not there is an error of the protocol, not a traceback."""
    with pytest.raises(ProtocolError, match=r"none\.json"):
        load(tmp_path / "none.json")


def test_differences_name_the_dotted_path_and_both_values():
    """Changed, missing, added, and list items."""
    registered = {"generation": {"max_new_tokens": 320, "top_p": 0.95}, "budgets": [48, 96], "same": {"a": 1.0}}
    live = {"generation": {"max_new_tokens": 512}, "budgets": [48, 97, 100], "same": {"a": 1}, "new": None}
    found = differences(registered, live)
    assert found == [
        Difference("budgets[1]", 96, 97),
        Difference("budgets[2]", ABSENT, 100),
        Difference("generation.max_new_tokens", 320, 512),
        Difference("generation.top_p", 0.95, ABSENT),
        Difference("new", ABSENT, None),
    ]
    assert str(found[2]) == "generation.max_new_tokens: registered 320, now 512"
    assert str(found[1]) == "budgets[2]: registered nothing, now 100"
    assert str(found[4]) == "new: registered nothing, now null"


def test_true_is_not_one():
    """Python's equality is too kind."""
    assert differences({"a": True}, {"a": 1}) == [Difference("a", True, 1)]


def test_mismatch_carries_the_differences():
    """A caller can print them its own way."""
    require_same({"a": 1}, {"a": 1})
    with pytest.raises(RegistrationMismatch, match="a: registered 1, now 2") as caught:
        require_same({"a": 1}, {"a": 2})
    assert caught.value.differences == (Difference("a", 1, 2),)


def test_document_of_the_tests_breaks_no_rule():
    """All other tests here change one thing of it."""
    check_document(document())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m": 3}, "m must count every primary hypothesis"),
        ({"alpha": 0}, "alpha must be between"),
        ({"alpha": True}, "alpha must be between"),
        ({"tolerance": 1.5}, "tolerance must be between"),
        ({"replicates": 0}, "replicates must be a whole number"),
        ({"replicates": 1.5}, "replicates must be a whole number"),
        ({"metric": "extraction"}, "metric must be accuracy or forced_agreement"),
        ({"correction": "none"}, "correction must be bonferroni"),
        ({"seen": None}, "seen must be"),
        ({"format": 0}, "format must be 1 or 2 or 3"),
        ({"test": {"name": "t_test", "resamples": 1, "seed": 1}}, r"test\.name must be one of"),
        ({"test": {"name": "sign_flip", "resamples": 0, "seed": 1}}, r"test\.resamples"),
        ({"test": {"name": "sign_flip", "seed": 1}}, r"test\.resamples is missing"),
        ({"test": {"name": "mcnemar_exact"}}, "one generation per problem"),
        ({"hypotheses": []}, "at least one"),
        ({"hypotheses": [hypothesis(), hypothesis()]}, "ids of their own"),
        ({"hypotheses": [hypothesis(arm="beta")]}, "arm must be registered too"),
        ({"hypotheses": [hypothesis(arm="baseline")]}, "must differ"),
        ({"hypotheses": [hypothesis(budget="47")]}, "budget must be registered too"),
        ({"hypotheses": [hypothesis(task="other")]}, "task must be registered too"),
        ({"hypotheses": [hypothesis(model="other")]}, "model must be registered too"),
        ({"hypotheses": [hypothesis(kind="better")]}, "kind must be one of"),
        ({"hypotheses": [hypothesis(kind="equivalence")]}, "must have a margin"),
        ({"hypotheses": [hypothesis(margin=0.02)]}, "takes no margin"),
        ({"hypotheses": [{"id": "x"}]}, r"hypotheses\.arm is missing"),
        ({"arms": {}}, "arms must be a mapping"),
        ({"data": {"dev": [], "heldout": []}}, r"data\.heldout must hold at least one task"),
        ({"data": []}, "data must be a mapping"),
        ({"parent": "0" * 64}, "must come together"),
        ({"parent": "0" * 64, "amendment": " "}, "must say why"),
        ({"lambda": 1}, "lambda is unknown"),
    ],
)
def test_rules_of_documents(changes, message):
    """Each broken rule is named."""
    with pytest.raises(ProtocolError, match=message):
        check_document(document(**changes))


def test_every_key_must_be_there():
    """A promise left out is not a promise."""
    for key in document():
        with pytest.raises(ProtocolError, match=rf"{key} is missing"):
            check_document({name: value for name, value in document().items() if name != key})


def test_all_broken_rules_come_at_once():
    """One run shows everything to mend."""
    with pytest.raises(ProtocolError) as caught:
        check_document(document(alpha=2, m=1))
    assert len(str(caught.value).splitlines()) == 2


def sha256_of(data):
    """Return the hash of JSON without spaces, with nothing but a JSON library."""
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).hexdigest()


def test_heldout_hash_is_that_of_the_sorted_contents():
    """A content is prompt and gold answer; ids and order are no part of it."""
    made = document()
    contents = [sha256_of([problem.prompt, problem.answer]) for problem in HELDOUT]
    assert [p["content"] for p in made["data"]["heldout"][0]["problems"]] == contents
    assert heldout_hash(made) == sha256_of(sorted(contents))
    made["data"]["heldout"][0]["problems"].reverse()
    assert heldout_hash(made) == heldout_hash(document())
    made["data"]["heldout"][0]["problems"].pop()
    assert heldout_hash(made) != heldout_hash(document())


@pytest.mark.parametrize("version", [1, 2])
def test_registrations_of_earlier_formats_keep_their_hashes(tmp_path, version):
    """They hash ids and order, have no marks, and their ledgers are read as they were written."""
    made = document(format=version)
    for task in (*made["data"]["dev"], *made["data"]["heldout"]):
        task["problems"] = [{"id": p["id"], "content": sha256_of([p["id"]])} for p in task["problems"]]
    check_document(made)
    pairs = [[p["id"], p["content"]] for p in made["data"]["heldout"][0]["problems"]]
    assert heldout_hash(made) == sha256_of(pairs)
    ledger = LookLedger(tmp_path / "ledger.jsonl")
    ledger.append("look", registration="r", problem_ids=["confirm-3"], contents=[sha256_of(["confirm-3"])])
    assert (
        [entry.n for entry in ledger.seen_before(made)] == [entry.n for entry in ledger.seen_before(document())] == [1]
    )


def test_hash_and_document_must_belong_together():
    """A registration cannot be put together by hand with another's hash."""
    with pytest.raises(ProtocolError, match="must not change"):
        Registration(document(), "0" * 64)
