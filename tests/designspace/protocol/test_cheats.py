"""Ways to cheat, each of which is refused or leaves a mark.

Each test does one thing that a study in need of a result might do, and asserts what stands in its way here.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle

import pytest

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError, RegistrationMismatch
from designspace.protocol.analysis import analyse, report_bytes, report_hash
from designspace.protocol.document import check_document
from designspace.protocol.heldout_key import HeldoutKey, open_look, require_key
from designspace.protocol.look_entry import LookedArm
from designspace.protocol.looks import LookLedger
from designspace.protocol.problem_records import heldout_hash, heldout_problems, known_by
from designspace.protocol.recognition import problem_content
from designspace.protocol.registration import differences, load, make_registration, require_same, save
from designspace.protocol.row_seal import seal_of
from designspace.protocol.sealed_results import require_sealed_rows
from designspace.protocol.selection import Selection, freeze_selection, load_selection
from designspace.protocol.splits import check_disjoint
from designspace.protocol.verification import verify
from designspace.tasks.problem import Problem
from tests.designspace.protocol.documents import (
    ARMS,
    DEV,
    HEAD,
    HELDOUT,
    TUNED,
    TUNED_ARMS,
    data_of,
    document,
    hypothesis,
    problem_of,
    rows,
    table,
)


@pytest.fixture
def ledger(tmp_path):
    """A ledger that does not exist yet."""
    return LookLedger(tmp_path / "ledger.jsonl")


@pytest.fixture
def registration():
    """The registration of the small study."""
    return make_registration(document())


@pytest.fixture
def looked(ledger, registration):
    """A ledger of four lines: a registration, tuning, and two looks."""
    ledger.register(registration)
    ledger.append("tune", registration=registration.sha256, arms=ARMS)
    open_look(ledger, registration, arms=ARMS)
    open_look(ledger, registration, arms=ARMS)
    return ledger


# The registration file


def edited(path, change):
    """Change the document in a registration file, and leave the rest alone."""
    stored = json.loads(path.read_text())
    change(stored["registration"])
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["test"].update(name="cluster_bootstrap"),
        lambda document: document["test"].update(seed=2),
        lambda document: document.update(alpha=0.1),
        lambda document: document.update(m=1),
        lambda document: document.update(tolerance=0.5),
        lambda document: document.update(smallest_effect=0.001),
        lambda document: document["hypotheses"].pop(),
        lambda document: document["hypotheses"][0].update(kind="non-inferiority", margin=0.1),
        lambda document: document["hypotheses"][0].update(arm="baseline", baseline="alpha"),
        lambda document: document.update(decision=None),
        lambda document: document["data"]["heldout"][0]["problems"].pop(),
        lambda document: document["arms"]["alpha"].update(weight=1.5),
        lambda document: document.update(seen=True),
    ],
    ids=[
        "test", "seed-of-test", "alpha", "m", "tolerance", "smallest-effect", "hypothesis-dropped", "kind-and-margin",
        "direction", "decision-rule", "heldout-problem-dropped", "tuned-value", "seen",
    ],
)  # fmt: skip
def test_editing_the_registration_file(tmp_path, registration, change):
    """The content no longer has the hash that the file says."""
    path = tmp_path / "registration.json"
    save(path, registration)
    edited(path, change)
    with pytest.raises(ProtocolError, match="was edited"):
        load(path)


def test_editing_file_and_hash_together(tmp_path, registration, ledger):
    """The file holds together; the ledger was told another hash."""
    path = tmp_path / "registration.json"
    save(path, registration)
    ledger.register(registration)
    path.unlink()
    save(path, make_registration(document(alpha=0.5)))
    with pytest.raises(ProtocolError, match="is not in the ledger"):
        open_look(ledger, load(path), arms=ARMS)


def test_a_key_given_twice_in_the_registration_file(tmp_path, registration):
    """A reader would see the first, code the last."""
    path = tmp_path / "registration.json"
    save(path, registration)
    path.write_text(path.read_text().replace('"alpha": 0.05', '"alpha": 0.001,\n  "alpha": 0.05'))
    with pytest.raises(ProtocolError, match="'alpha' is given twice"):
        load(path)


def test_changing_the_document_in_memory(registration, ledger):
    """The object that was registered is checked again before it opens anything."""
    ledger.register(registration)
    registration.document["alpha"] = 0.5
    with pytest.raises(ProtocolError, match="must not change"):
        open_look(ledger, registration, arms=ARMS)


def test_running_with_other_settings_than_registered(registration):
    """Each setting that differs is named, with both values."""
    live = document()
    live["generation"]["max_new_tokens"] = 512
    live["code"]["id"] = "d" * 40
    with pytest.raises(RegistrationMismatch) as caught:
        require_same(registration.document, live)
    assert [difference.path for difference in caught.value.differences] == ["code.id", "generation.max_new_tokens"]


def test_swapping_a_heldout_problem_for_an_easier_one(registration):
    """Same id, other content: the hash of the problem differs."""
    live = document()
    live["data"]["heldout"][0]["problems"][3]["content"] = problem_content(Problem("confirm-3", "1 + 1?", "2"))
    assert [found.path for found in differences(registration.document, live)] == ["data.heldout[0].problems[3].content"]


def test_overwriting_the_registration(tmp_path, registration):
    """The first one stays."""
    save(tmp_path / "r.json", registration)
    with pytest.raises(ProtocolError, match="must not be overwritten"):
        save(tmp_path / "r.json", make_registration(document(m=9)))


def test_registering_a_family_smaller_than_its_hypotheses():
    """The correction cannot be made milder by miscounting."""
    with pytest.raises(ProtocolError, match="m must count every primary hypothesis"):
        check_document(document(m=1))


def test_registering_a_decision_that_looks_at_no_cell():
    """`none` of no cells would hold for ever."""
    with pytest.raises(ProtocolError, match="must pick a cell"):
        check_document(document(decision={"rules": "paper", "roles": {"qwen": "toy-qwen", "llama": "nobody"}}))


def test_amending_without_counting_the_first_family(registration, ledger):
    """The hypotheses of the parent stay in m."""
    ledger.register(registration)
    child = make_registration(document(parent=registration.sha256, amendment="new idea", m=4))
    with pytest.raises(ProtocolError, match=r"m must be at least 4 \+ 4"):
        ledger.register(child)


def test_amending_a_registration_that_never_was(ledger):
    """A parent must be in the ledger."""
    with pytest.raises(ProtocolError, match="is not in the ledger"):
        ledger.register(make_registration(document(parent="0" * 64, amendment="trust me", m=9)))


# The ledger


def lines_of(ledger):
    """Return the lines of the ledger's file."""
    return ledger.path.read_text().splitlines()


def rewrite(ledger, lines):
    """Write lines in place of the ledger's own; its side file stays."""
    ledger.path.write_text("".join(f"{line}\n" for line in lines))


def test_deleting_a_line_in_the_middle(looked):
    """The next line names one that is gone."""
    found = lines_of(looked)
    rewrite(looked, [*found[:1], *found[2:]])
    with pytest.raises(ProtocolError, match=r"jsonl:2: line 2 of the ledger must say n=2, got n=3"):
        looked.entries()


def test_deleting_a_line_and_numbering_anew(looked):
    """The number fits, the hash does not."""
    found = lines_of(looked)
    moved = found[2].replace('"n":3', '"n":2')
    rewrite(looked, [found[0], moved])
    with pytest.raises(ProtocolError, match=r"jsonl:2: the chain breaks here"):
        looked.entries()


def test_deleting_the_last_line(looked):
    """The side file knows how many there were."""
    rewrite(looked, lines_of(looked)[:-1])
    with pytest.raises(ProtocolError, match="was cut short: it must have 4 lines, got 3"):
        looked.entries()


def test_truncating_in_the_middle_of_the_last_line(looked):
    """A torn line is forgiven only where nobody was told of it."""
    looked.path.write_bytes(looked.path.read_bytes()[:-20])
    with pytest.raises(ProtocolError, match="was cut short"):
        looked.append("tune", registration="r")


def test_emptying_the_ledger(looked):
    """Nothing left is also cut short."""
    looked.path.write_text("")
    with pytest.raises(ProtocolError, match="was cut short"):
        looked.entries()


def test_deleting_the_ledger(looked):
    """The side file is still there."""
    looked.path.unlink()
    with pytest.raises(ProtocolError, match="is gone"):
        looked.entries()


def test_deleting_the_side_file(looked):
    """A ledger without its end is not trusted."""
    looked.path.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(ProtocolError, match="is gone"):
        looked.entries()


def test_editing_a_line(looked):
    """Its successor holds the hash of what it was."""
    found = lines_of(looked)
    found[2] = found[2].replace('"kind":"look"', '"kind":"tune"')
    rewrite(looked, found)
    with pytest.raises(ProtocolError, match=r"jsonl:4: the chain breaks here"):
        looked.entries()


def test_editing_the_last_line(looked):
    """It has no successor, but the side file has its hash."""
    found = lines_of(looked)
    found[3] = found[3].replace('"kind":"look"', '"kind":"tune"')
    rewrite(looked, found)
    with pytest.raises(ProtocolError, match=r"jsonl:4: this line was edited"):
        looked.entries()


def test_adding_blanks_to_a_line(looked):
    """A line is as it was written, not only as it is read."""
    found = lines_of(looked)
    found[3] = found[3].replace('"kind":', '"kind": ')
    rewrite(looked, found)
    with pytest.raises(ProtocolError, match=r"jsonl:4: this line of the ledger was edited"):
        looked.entries()


def test_reordering_lines(looked):
    """Looks cannot be moved before the registration."""
    one, two, three, four = lines_of(looked)
    rewrite(looked, [one, three, two, four])
    with pytest.raises(ProtocolError, match="jsonl:2:"):
        looked.entries()


def test_forging_lines_at_the_end(looked):
    """Lines that the side file does not know."""
    found, previous = lines_of(looked), looked.head()
    for n in (5, 6):
        found.append(canonical_json({**json.loads(found[0]), "n": n, "previous": previous}))
        previous = hashlib.sha256(found[-1].encode()).hexdigest()
    rewrite(looked, found)
    with pytest.raises(ProtocolError, match="behind the ledger's back"):
        looked.entries()


def test_appending_to_a_broken_ledger(looked):
    """What is broken stays visible instead of being continued."""
    found = lines_of(looked)
    rewrite(looked, [found[1], *found[1:]])
    before = looked.path.read_bytes()
    with pytest.raises(ProtocolError, match="jsonl:1:"):
        looked.append("look", registration="r")
    assert looked.path.read_bytes() == before


def test_deleting_the_last_look_and_mending_the_side_file(looked, registration):
    """The ledger holds together again; the report of that look still has its head."""
    head = looked.head()
    found = lines_of(looked)
    rewrite(looked, found[:-1])
    last = hashlib.sha256(found[2].encode()).hexdigest()
    looked.path.with_name("ledger.jsonl.head").write_text(json.dumps({"n": 3, "sha256": last}))
    assert len(looked.entries()) == 3
    with pytest.raises(ProtocolError, match="was shortened or rewritten"):
        looked.require_head(head)


def test_an_entry_older_than_the_one_before(looked):
    """A clock that is set back cannot put a registration before what was seen."""
    with pytest.raises(ProtocolError, match="must not be older than the line before"):
        looked.append("register", registration="r", time="2020-01-01T00:00:00+00:00")
    assert len(looked.entries()) == 4


def test_a_chain_made_anew_with_times_that_run_backwards(looked):
    """The hashes fit; the order of time does not."""
    previous, made = "0" * 64, []
    for line, time in zip(lines_of(looked), ("2026-01-04", "2026-01-03", "2026-01-02", "2026-01-01"), strict=True):
        content = {**json.loads(line), "previous": previous, "time": f"{time}T00:00:00+00:00"}
        made.append(canonical_json(content))
        previous = hashlib.sha256(made[-1].encode()).hexdigest()
    rewrite(looked, made)
    looked.path.with_name("ledger.jsonl.head").write_text(json.dumps({"n": 4, "sha256": previous}))
    with pytest.raises(ProtocolError, match=r"jsonl:2: line 2 of the ledger must not be older than the line before"):
        looked.entries()


def test_an_entry_without_a_time(looked):
    """What has no time cannot be put in order."""
    for time in ("long ago", "2099-01-01T00:00:00"):
        with pytest.raises(ProtocolError, match="must be ISO 8601 with a zone"):
            looked.append("tune", registration="r", time=time)


# Looking


def test_making_a_key_by_hand():
    """The constructor is closed."""
    with pytest.raises(ProtocolError, match="must come from open_look"):
        HeldoutKey(registration="r", heldout="h", look=1, ledger_head=HEAD, _token=object())


def test_making_a_key_around_the_constructor(registration, ledger):
    """It has no token, and its look is not in the ledger."""
    ledger.register(registration)
    forged = object.__new__(HeldoutKey)
    with pytest.raises(ProtocolError, match="must come from open_look"):
        require_key(forged, ledger, registration)


def test_copying_the_token_of_a_real_key(registration, ledger):
    """The ledger does not know the look that the forgery names."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS)
    forged = HeldoutKey(registration=key.registration, heldout=key.heldout, look=1, ledger_head=HEAD, _token=key._token)
    with pytest.raises(ProtocolError, match="must be in the ledger"):
        require_key(forged, ledger, registration)


@pytest.mark.parametrize("keep", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_keeping_a_key_for_later(registration, ledger, keep):
    """Each use of the held-out problems asks the ledger."""
    ledger.register(registration)
    with pytest.raises(ProtocolError, match="must not be copied or stored"):
        keep(open_look(ledger, registration, arms=ARMS))


def test_something_that_is_no_key(registration, ledger):
    """A look-alike opens nothing."""
    with pytest.raises(ProtocolError, match="must be shown"):
        require_key({"registration": registration.sha256}, ledger, registration)


def test_using_the_key_of_another_study(registration, ledger):
    """A key is for one registration."""
    ledger.register(registration)
    other = make_registration(document(study="other"))
    key = open_look(ledger, registration, arms=ARMS)
    ledger_of_other = make_registration(document(study="other", seen=True))
    ledger.register(ledger_of_other)
    for wrong in (other, ledger_of_other):
        with pytest.raises(ProtocolError, match="must be for registration"):
            require_key(key, ledger, wrong)


def test_looking_without_registering(registration, ledger):
    """The hash must be in the ledger first."""
    with pytest.raises(ProtocolError, match="register it first"):
        open_look(ledger, registration, arms=ARMS)
    assert ledger.entries() == []


def test_looking_with_an_arm_more_or_less(registration, ledger):
    """Exactly the registered arms run."""
    ledger.register(registration)
    for arms in ({**ARMS, "beta": LookedArm("1" * 64, "x")}, {"alpha": ARMS["alpha"]}):
        with pytest.raises(ProtocolError, match="must be at the registered arms"):
            open_look(ledger, registration, arms=arms)


def test_registering_after_a_look_as_if_unseen(looked):
    """What was looked at is seen, for every registration that follows."""
    with pytest.raises(ProtocolError, match="seen must be true"):
        looked.register(make_registration(document(alpha=0.04)))
    assert looked.register(make_registration(document(alpha=0.04, seen=True))).kind == "register"


def renamed(problems, prompt=str, answer=str, kind=""):
    """Return problems under other ids, with texts that a function makes of theirs."""
    return [Problem(f"new-{i}", prompt(p.prompt), answer(p.answer), kind) for i, p in enumerate(problems)]


@pytest.mark.parametrize(
    "again",
    [
        HELDOUT[1:],
        renamed(HELDOUT),
        renamed(HELDOUT[::-1]),
        renamed(HELDOUT[7:11]),
        renamed(HELDOUT[5:6]),
        renamed(HELDOUT, kind="another"),
        renamed(HELDOUT, prompt=lambda text: f"  {text.upper()}\n"),
        renamed(HELDOUT, prompt=lambda text: f"Solve this.\n\n{text}\nThink first."),
        renamed(HELDOUT, answer=lambda text: f"{text}.0"),
        renamed([*HELDOUT[:1], *(Problem(f"fresh-{i}", f"What follows {i + 1000}?", str(i)) for i in range(19))]),
    ],
    ids=[
        "one-less", "other-ids", "other-order", "four", "one", "other-kinds", "other-spacing-and-case", "other-template",
        "other-spelling-of-answers", "one-among-new-ones",
    ],
)  # fmt: skip
def test_a_new_set_made_of_problems_already_seen(looked, again):
    """Whatever they are called and however they are dressed: neither unseen nor look number one."""
    with pytest.raises(ProtocolError, match="seen must be true"):
        looked.register(make_registration(document(data=data_of(again))))
    registration = make_registration(document(data=data_of(again), seen=True))
    looked.register(registration)
    assert open_look(looked, registration, arms=ARMS).look == 3


def test_the_same_problems_in_two_tasks(looked):
    """How problems are grouped is no part of them."""
    data = data_of(renamed(HELDOUT))
    (whole,) = data["heldout"]
    data["heldout"] = [
        {**whole, "problems": whole["problems"][:9]},
        {**whole, "name": "b", "problems": whole["problems"][9:]},
    ]
    with pytest.raises(ProtocolError, match="seen must be true"):
        looked.register(make_registration(document(data=data)))


def test_other_problems_of_the_same_form_are_not_seen(looked):
    """A template in common, and the same words round other numbers, make no problem seen."""
    fresh = renamed([problem_of(f"confirm-{i}") for i in range(20, 40)])
    assert looked.register(make_registration(document(data=data_of(fresh)))).kind == "register"


def test_tuning_on_heldout_problems_under_other_ids(ledger, registration):
    """They are known by their content."""
    tuned_on = data_of(renamed(HELDOUT[:3], prompt=str.upper))["heldout"][0]["problems"]
    ids, contents = known_by(tuned_on)
    ledger.append("tune", registration="r", problem_ids=ids, contents=contents, arms=ARMS)
    with pytest.raises(ProtocolError, match="line 1 of the ledger is a tune on these held-out problems"):
        ledger.register(registration)


def test_counting_a_problem_several_times_under_several_ids():
    """A problem is the unit of inference; more ids do not make more of them."""
    copies = [Problem(f"copy-{p.problem_id}", f"{p.prompt} ", p.answer) for p in HELDOUT[:5]]
    with pytest.raises(ProtocolError, match="must differ in content, got 5 of 25 that repeat another"):
        check_document(document(data=data_of([*HELDOUT, *copies])))


def test_the_hash_of_the_set_knows_neither_ids_nor_order(registration):
    """Neither ids nor order are content."""
    again = document(data=data_of(renamed(HELDOUT[::-1])))
    assert heldout_hash(again) == heldout_hash(registration.document)
    assert heldout_hash(document(data=data_of(HELDOUT[1:]))) != heldout_hash(registration.document)


def test_looking_twice_is_in_the_report(registration, ledger):
    """The number of the look is in the report and its notes."""
    ledger.register(registration)
    open_look(ledger, registration, arms=ARMS)
    key = open_look(ledger, registration, arms=ARMS)
    report = analyse(registration.document, None, table(rows(registration.document)), key.ledger_head, key.look)
    assert report["look"] == 2
    assert "held-out look #2" in report["notes"][0]


def test_a_relative_tried_before_under_another_name(looked):
    """Arms of the same family on the same problems are found, whatever they are called."""
    found = looked.relatives(["triattention"], ["confirm-3"])
    assert [relative.entry.kind for relative in found] == ["look", "look"]
    contents = known_by(data_of(renamed(HELDOUT[3:4]))["heldout"][0]["problems"])[1]
    assert looked.relatives(["triattention"], ["new-0"], contents) != []


# Tuning and selection


@pytest.fixture
def tuned():
    """A registration with one parameter to tune."""
    return make_registration(document(arms=TUNED_ARMS))


def chosen(registration, weight):
    """Return a selection."""
    return Selection(registration.sha256, {TUNED: weight}, {})


def test_selecting_twice(tmp_path, tuned, ledger):
    """One selection to a registration."""
    ledger.register(tuned)
    freeze_selection(tmp_path / "s.json", chosen(tuned, 0.5), ledger)
    with pytest.raises(ProtocolError, match="must not be overwritten"):
        freeze_selection(tmp_path / "s.json", chosen(tuned, 1.0), ledger)


@pytest.mark.parametrize("where", ["s.json", "other.json"], ids=["file-deleted", "another-file"])
def test_selecting_twice_through_the_file_system(tmp_path, tuned, ledger, where):
    """The ledger remembers the first, whatever happened to its file."""
    ledger.register(tuned)
    freeze_selection(tmp_path / "s.json", chosen(tuned, 0.5), ledger)
    (tmp_path / "s.json").unlink()
    with pytest.raises(ProtocolError, match="one selection to a registration"):
        freeze_selection(tmp_path / where, chosen(tuned, 1.0), ledger)


def test_editing_the_selection_file(tmp_path, tuned, ledger):
    """Its hash no longer fits."""
    ledger.register(tuned)
    path = tmp_path / "s.json"
    freeze_selection(path, chosen(tuned, 0.5), ledger)
    path.write_text(path.read_text().replace("0.5", "1.5"))
    with pytest.raises(ProtocolError, match="was edited"):
        load_selection(path)


def test_editing_the_selection_file_and_its_hash(tmp_path, tuned, ledger):
    """The ledger froze another."""
    ledger.register(tuned)
    path = tmp_path / "s.json"
    freeze_selection(path, chosen(tuned, 0.5), ledger)
    other = chosen(tuned, 1.5)
    path.write_text(json.dumps({"sha256": other.sha256, "selection": other.to_json()}))
    with pytest.raises(ProtocolError, match="must be the selection that the ledger froze"):
        load_selection(path, ledger)
    with pytest.raises(ProtocolError, match="must be at the selection that was frozen"):
        open_look(ledger, tuned, arms=ARMS, selection=other.sha256)


def test_selecting_after_a_look(tmp_path, registration, ledger):
    """What is chosen after the held-out problems were seen was not tuned on development problems."""
    ledger.register(registration)
    open_look(ledger, registration, arms=ARMS)
    with pytest.raises(ProtocolError, match="must come before any look"):
        freeze_selection(tmp_path / "s.json", chosen(registration, 0.5), ledger)


def test_looking_before_selecting(tuned, ledger):
    """What is tuned has no value yet."""
    ledger.register(tuned)
    with pytest.raises(ProtocolError, match=r"must be selected before a look, got no selection of alpha\.weight"):
        open_look(ledger, tuned, arms=ARMS)


def test_analysing_with_the_selection_of_another_registration(tuned, registration):
    """Selection and registration belong together."""
    data = table(rows(tuned.document))
    with pytest.raises(ProtocolError, match="must be of registration"):
        analyse(tuned.document, chosen(registration, 0.5).to_json(), data, HEAD, 1)
    with pytest.raises(ProtocolError, match="must be selected first"):
        analyse(tuned.document, None, data, HEAD, 1)


def test_tuning_on_heldout_problems_by_id():
    """Found at registration, in the document itself."""
    made = document()
    made["data"]["dev"][0]["problems"].append(dict(made["data"]["heldout"][0]["problems"][0]))
    with pytest.raises(ProtocolError, match="must share no problem, got 1 of the same id"):
        check_document(made)


def test_tuning_on_heldout_problems_before_registering(ledger, registration):
    """Problems that an earlier study tuned on are not unseen."""
    ledger.append("tune", registration="r", problem_ids=["confirm-1"], arms=ARMS)
    with pytest.raises(ProtocolError, match="line 1 of the ledger is a tune on these held-out problems"):
        ledger.register(registration)


def test_tuning_on_heldout_problems_after_registering(ledger, registration):
    """What was tuned on opens no key."""
    ledger.register(registration)
    ledger.append("tune", registration=registration.sha256, problem_ids=["x"], contents=[problem_content(HELDOUT[2])])
    with pytest.raises(ProtocolError, match="must not be tuned on, got line 2"):
        open_look(ledger, registration, arms=ARMS)


def test_tuning_on_heldout_problems_by_near_duplicate_text():
    """Another id and another wording of a sentence do not make another problem."""
    copied = Problem("dev-99", f"Please answer. {HELDOUT[4].prompt.upper()}", HELDOUT[4].answer)
    assert check_disjoint([*DEV, copied], HELDOUT) == [
        "dev 'dev-99' and held-out 'confirm-4' are nearly the same: the same numbers, 100% of the words"
    ]


# The rows


def judged(found, **changes):
    """Analyse rows under the registration, changed or not, and return the report."""
    return analyse(document(**changes), None, table(found), HEAD, 1)


def broken(changed):
    """Return all rows, of which some are changed: `changed` maps a row to its replacement or to None."""
    return [row for row in map(changed, rows(document())) if row is not None]


def is_alpha(row):
    """Return whether it is a row of the first cell's arm."""
    return (row["mechanism"], row["model"], row["budget"]) == ("alpha", "toy-qwen", "48")


def test_dropping_a_seed():
    """The seed that went badly is missed."""
    report = judged(broken(lambda row: None if is_alpha(row) and row["replicate"] == 2 else row))
    assert report["hypotheses"][0]["status"] == "incomplete"
    assert report["hypotheses"][0]["reason"] == "arm has 40 of 60 generations, 40 graded"
    assert report["hypotheses"][0]["p"] is None


def test_dropping_a_seed_in_both_arms():
    """Pairs that are whole are not enough."""
    report = judged(broken(lambda row: None if row["replicate"] == 2 else row))
    assert {found["status"] for found in report["hypotheses"]} == {"incomplete"}


def test_dropping_a_problem_in_both_arms():
    """The problem that went badly is missed."""
    report = judged(broken(lambda row: None if row["problem_id"] == "confirm-3" else row))
    assert {found["status"] for found in report["hypotheses"]} == {"incomplete"}
    assert report["decision"]["branch"] == "void"


def test_dropping_the_wrong_answers():
    """Generations that failed are missed one by one."""
    report = judged(broken(lambda row: None if is_alpha(row) and not row["correct"] else row))
    assert report["hypotheses"][0]["status"] == "incomplete"


def test_taking_the_grades_away():
    """An ungraded generation is not left out."""

    def ungraded(row):
        return {**row, "correct": None, "grader_id": None} if is_alpha(row) and not row["correct"] else row

    assert judged(broken(ungraded))["hypotheses"][0]["status"] == "incomplete"


def refused(found, message):
    """Assert that rows are refused with a message."""
    with pytest.raises(ProtocolError, match=message):
        judged(found)


def test_an_arm_too_many():
    """Arms that nobody registered cannot be shown."""
    refused([*rows(document()), *broken(lambda row: {**row, "mechanism": "beta"} if is_alpha(row) else None)],
            "mechanism must be one of baseline, alpha, got 'beta'")  # fmt: skip


def test_renaming_an_arm():
    """The better of two arms under the registered name: two configurations under one name."""
    swapped = broken(
        lambda row: {**row, "cell_id": "other"} if is_alpha(row) and row["problem_id"] < "confirm-2" else row
    )
    refused(swapped, "one name must stand for one configuration")


def test_rows_twice():
    """The good ones count once."""
    found = rows(document())
    refused([*found, *(row for row in found if is_alpha(row) and row["correct"])], "each generation must be there once")


def test_a_replicate_too_many():
    """More tries than registered."""
    refused(broken(lambda row: {**row, "replicate": row["replicate"] + 1}), r"replicate must be in \[0, 3\), got 3")


def test_other_sampling():
    """Another root seed is another experiment."""
    refused(broken(lambda row: {**row, "seed": 1} if is_alpha(row) else row), "seed must be 20260514, got 1")


def test_rows_of_another_split():
    """Development rows in the place of held-out ones."""
    refused(broken(lambda row: {**row, "split": "dev"}), "split of 'toy' must be 'confirm', got 'dev'")


def test_rows_of_a_problem_that_is_not_held_out():
    """An easier problem in the place of another."""
    refused(broken(lambda row: {**row, "problem_id": "dev-1"} if row["problem_id"] == "confirm-1" else row),
            "problem must be one of the held-out ones, got 'dev-1'")  # fmt: skip


@pytest.mark.parametrize("column", ["prompt", "answer"])
def test_rows_of_a_problem_with_another_content(column):
    """The registered id over another text or gold answer."""
    refused(broken(lambda row: {**row, column: "0"} if row["problem_id"] == "confirm-1" else row),
            "must have the registered prompt and answer")  # fmt: skip


def test_rows_of_another_grader():
    """A kinder grader is another one."""
    refused(broken(lambda row: {**row, "grader_id": "kind"} if is_alpha(row) else row),
            "grader_id of 'toy' must be grader-1, got kind")  # fmt: skip


def test_rows_of_another_model_task_or_budget():
    """None of them registered."""
    for column in ("model", "task", "budget"):
        refused(
            broken(lambda row, column=column: {**row, column: "other"} if is_alpha(row) else row), f"{column} must be"
        )


def test_a_larger_budget_under_the_name_of_the_registered_one():
    """The label is not the budget."""
    refused(
        broken(lambda row: {**row, "budget_tokens": 64} if is_alpha(row) else row),
        r"budget '48' must be \(48, 'mean'\)",
    )


@pytest.mark.parametrize("column", ["mean_cache_tokens", "steady_mean_cache_tokens"])
def test_rows_of_unmatched_memory(column):
    """More memory than the baseline: the numbers are shown, no test is made, and no branch rests on it."""
    report = judged(broken(lambda row: {**row, column: 1.05 * row[column]} if row["mechanism"] == "alpha" else row))
    assert {found["status"] for found in report["hypotheses"]} == {"void"}
    assert {found["p"] for found in report["hypotheses"]} == {None}
    assert report["decision"]["branch"] == "void"


def test_a_budget_that_never_bites():
    """Texts shorter than the budget compare nothing."""
    report = judged(broken(lambda row: {**row, "n_events": 0} if row["replicate"] else row))
    assert "must have an event" in report["hypotheses"][0]["reason"]


def test_leaving_out_a_column_that_is_checked():
    """What cannot be checked is not analysed."""
    data = table(rows(document()))
    for column in ("prompt", "seed", "grader_id", "cell_id", "steady_mean_cache_tokens"):
        with pytest.raises(ProtocolError, match=f"must have the columns {column}"):
            analyse(document(), None, data.drop_columns([column]), HEAD, 1)


def test_reporting_what_was_not_registered():
    """There are as many results as hypotheses, whatever else the rows could tell."""
    report = judged(rows(document()), hypotheses=[hypothesis()], decision=None)
    assert [found["id"] for found in report["hypotheses"]] == [hypothesis()["id"]]
    assert report["threshold"] == 0.05 / 4
    assert report["rows"]["n"] == 480


# The report


@pytest.fixture
def confirmed(ledger, registration):
    """A confirmed study: its rows and its report."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS)
    data = table(rows(registration.document, look=key.ledger_head))
    report = analyse(registration.document, None, data, key.ledger_head, key.look)
    ledger.seal(key.ledger_head, seal_of(data), report_hash(report))
    return data, report


def test_an_honest_report_verifies(confirmed, registration, ledger):
    """As a document and as the bytes of its file, also after later looks."""
    data, report = confirmed
    open_look(ledger, registration, arms=ARMS)
    assert verify(report, registration, None, data, ledger) == []
    assert verify(report_bytes(report), registration, None, data, ledger) == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("hypotheses[0].p", lambda report: report["hypotheses"][0].update(p=0.001)),
        ("hypotheses[0].effect", lambda report: report["hypotheses"][0].update(effect=0.2)),
        ("hypotheses[0].significant", lambda report: report["hypotheses"][0].update(significant=None)),
        ("decision.branch", lambda report: report["decision"].update(branch="A+")),
        ("notes[0]", lambda report: report["notes"].insert(0, "all is well")),
        ("look", lambda report: report.update(look=7)),
        ("m", lambda report: report.update(m=1)),
        ("rows.sha256", lambda report: report["rows"].update(sha256=HEAD)),
    ],
    ids=["p", "effect", "significance", "branch", "notes", "look", "family", "rows"],
)
def test_editing_the_report(confirmed, registration, ledger, path, change):
    """The place is named."""
    data, report = confirmed
    change(report)
    assert path in [found.path for found in verify(report, registration, None, data, ledger)]


def test_editing_the_report_file(confirmed, registration, ledger):
    """Even a blank is not as it was written."""
    data, report = confirmed
    with pytest.raises(ProtocolError, match="it was edited"):
        verify(report_bytes(report).replace(b",", b", ", 1), registration, None, data, ledger)


def test_pointing_the_report_at_another_line_of_the_ledger(confirmed, registration, ledger):
    """The head must be that of a look of this registration."""
    data, report = confirmed
    with pytest.raises(ProtocolError, match="must be the look of this report"):
        verify({**report, "ledger_head": ledger.entries()[0].sha256}, registration, None, data, ledger)
    with pytest.raises(ProtocolError, match="was shortened or rewritten"):
        verify({**report, "ledger_head": HEAD}, registration, None, data, ledger)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"correct": True, "grade_status": "correct"}, "grades"),
        ({"extracted": "8"}, "grades"),
        ({"lenient_correct": True}, "grades"),
        ({"text": "the answer is 7"}, "texts"),
        ({"mean_cache_tokens": 47.0}, "figures"),
        ({"cache_tokens_per_step": [1.0] * 9}, "figures"),
        ({"text": "7", "correct": True}, "texts and the grades"),
    ],
    ids=["grade", "answer-found", "lenient-grade", "text", "memory", "course-of-memory", "text-and-grade"],
)
def test_changing_a_row_after_the_result(confirmed, registration, ledger, change, what):
    """The result is sealed: what differs is named, whether or not the report was made anew to fit."""
    data, report = confirmed
    found = data.to_pylist()
    wrong = next(row for row in found if is_alpha(row) and not row["correct"])
    wrong.update(change)
    fitting = analyse(registration.document, None, table(found), report["ledger_head"], report["look"])
    for shown in (report, fitting):
        with pytest.raises(ProtocolError, match=rf"line 3 of the ledger sealed.*\n.*toy-qwen.* the {what} are not"):
            verify(shown, registration, None, table(found), ledger)


def test_grading_anew_by_a_kinder_grader_after_the_result(confirmed, registration, ledger):
    """Its grades break no seal, and are not those of the registered grader."""
    data, report = confirmed
    kinder = table([{**row, "correct": True, "grader_id": "kinder"} for row in data.to_pylist()])
    require_sealed_rows(ledger, kinder)
    with pytest.raises(ProtocolError, match="the grades are not those that were sealed"):
        verify(report, registration, None, kinder, ledger)
    with pytest.raises(ProtocolError, match="grader_id of 'toy' must be grader-1, got kinder"):
        analyse(registration.document, None, kinder, report["ledger_head"], 1)


def test_grading_some_rows_anew_by_a_kinder_grader_after_the_result(confirmed, ledger):
    """The others are still sealed."""
    data, _ = confirmed
    found = data.to_pylist()
    found[0].update(grader_id="kinder", correct=True)
    found[-1].update(correct=not found[-1]["correct"])
    with pytest.raises(ProtocolError, match="the grades are not those that were sealed"):
        require_sealed_rows(ledger, table(found))


def test_taking_rows_away_after_the_result(confirmed, registration, ledger):
    """They were sealed, so they are missed."""
    data, report = confirmed
    with pytest.raises(ProtocolError, match="20 rows were sealed, 19 are there"):
        verify(report, registration, None, data.slice(1), ledger)


def test_sealing_a_second_result(confirmed, ledger):
    """The first one stays."""
    data, report = confirmed
    again = seal_of(table([{**row, "correct": True} for row in data.to_pylist()]))
    with pytest.raises(ProtocolError, match="one result to a look: line 3 of the ledger seals another"):
        ledger.seal(report["ledger_head"], again, report_hash(report))
    assert ledger.seal(report["ledger_head"], seal_of(data), report_hash(report)).n == 3


def test_a_report_whose_result_was_never_sealed(ledger, registration):
    """Analysing rows by hand makes no confirmation."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS)
    data = table(rows(registration.document, look=key.ledger_head))
    report = analyse(registration.document, None, data, key.ledger_head, key.look)
    with pytest.raises(ProtocolError, match="must have a sealed result"):
        verify(report, registration, None, data, ledger)


def test_another_report_of_the_sealed_rows(ledger, registration):
    """The ledger has the hash of the one that was made."""
    ledger.register(registration)
    key = open_look(ledger, registration, arms=ARMS)
    data = table(rows(registration.document, look=key.ledger_head))
    report = analyse(registration.document, None, data, key.ledger_head, key.look)
    ledger.seal(key.ledger_head, seal_of(data), HEAD)
    with pytest.raises(ProtocolError, match="sealed another report"):
        verify(report, registration, None, data, ledger)


def test_rows_of_a_look_that_the_ledger_lacks(tmp_path, confirmed, registration):
    """An older ledger, or a new one, beside rows of a later look."""
    data, report = confirmed
    anew = LookLedger(tmp_path / "anew.jsonl")
    anew.register(registration)
    key = open_look(anew, registration, arms=ARMS, user="another")  # within one second, the lines would be the same
    report = analyse(registration.document, None, data, key.ledger_head, key.look)
    assert "480 of 480 generations were there before this look" in report["notes"][0]
    with pytest.raises(ProtocolError, match="must hold every look that rows here were made under"):
        verify(report, registration, None, data, anew)


def test_rows_made_outside_of_any_look():
    """Problems that nobody has seen have no rows from elsewhere; where they were seen, the report says so."""
    outside = [{**row, "look_sha256": None} for row in rows(document())]
    refused(outside, "must be made under a look at the held-out problems, got one outside of any")
    assert "480 of 480 generations were there before this look" in judged(outside, seen=True)["notes"][1]


def test_selecting_after_the_problems_were_shown(tmp_path, tuned, ledger):
    """A look by any command is a look."""
    ledger.register(tuned)
    ids, contents = known_by(heldout_problems(tuned.document)[4:5])
    ledger.append("look", registration=tuned.sha256, problem_ids=ids, contents=contents, details={"command": "report"})
    with pytest.raises(ProtocolError, match="must come before any look, got a look in line 2"):
        freeze_selection(tmp_path / "s.json", chosen(tuned, 0.5), ledger)


def test_showing_another_selection_with_the_report(confirmed, registration, ledger):
    """The look was at none."""
    data, report = confirmed
    with pytest.raises(ProtocolError, match="was at selection None"):
        verify(report, registration, chosen(registration, 0.5), data, ledger)
