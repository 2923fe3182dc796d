"""Studies: development and held-out sweeps, what is refused, and what a registration is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from designspace.axes import WindowShare
from designspace.errors import DeclarationError, ProtocolError
from designspace.protocol import HeldoutKey, LookLedger, heldout_hash, make_registration, open_look
from designspace.protocol.looks import LookedArm
from designspace.statistics.registered_tests import REGISTERED_TESTS
from designspace.tasks.task_spec import TaskSpec
from sweeps.expand import expand
from sweeps.protocol_fields import PairedTest
from sweeps.space import grid
from sweeps.spec import load_sweep, parse_sweep
from sweeps.study import Study, load_study, parse_study
from sweeps.tuning import tuning_document
from tests.designspace.protocol.documents import document
from tests.sweeps.studies import HELDOUT, study_of, study_text, tuned, weight

FOLDER = Path(__file__).parent / "broken_studies"
FILES = sorted(file.name for file in FOLDER.glob("*.yaml"))
WEIGHT = "arm.scoring.selector.weight"
DEV = (TaskSpec("chain-arithmetic", "dev", 6),)
CONFIRM = (TaskSpec("chain-arithmetic", "confirm", 5),)


def registered(study: Study, **changes: Any) -> dict[str, Any]:
    """Return a document of the study that may be registered and looked at without tuning."""
    found = {
        "hypotheses": study.hypotheses(),
        "m": len(study.hypotheses()),
        "arms": {mechanism.name: {"kind": mechanism.name} for mechanism in study.sweep.mechanisms},
        "data": study.data_records(),
        "models": {model.name: {} for model in study.sweep.models},
        "decision": None,
        **changes,
    }
    return document(**found)


def key_of(study: Study, folder: Path) -> HeldoutKey:
    """Register a study, look, and return the key."""
    registration = make_registration(registered(study))
    ledger = LookLedger(folder / "ledger.jsonl")
    ledger.register(registration)
    return open_look(ledger, registration, arms={name: LookedArm("a" * 64, "snapkv") for name in ("arm", "base")})


def test_there_are_enough_broken_studies() -> None:
    """The folder was found."""
    assert len(FILES) >= 35


@pytest.mark.parametrize("name", FILES)
def test_problems_are_as_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the one in the .txt file of the same name."""
    monkeypatch.chdir(FOLDER)
    with pytest.raises(DeclarationError) as caught:
        load_study(name)
    expected = (FOLDER / name).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert expected == list(caught.value.problems)


def test_values_take_the_placeholders_place() -> None:
    """Everything else is what the file says."""
    study = study_of()
    sweeps = [study.sweep_for({WEIGHT: value}) for value in (0.5, 1.0, 1.5)]
    assert [sweep.mechanisms[1].identity()["scoring"]["selector"]["weight"] for sweep in sweeps] == [0.5, 1.0, 1.5]
    plain = json.loads(study_text(weight({"choices": [1.0]})).replace('{"tune": {"choices": [1.0]}}', "1.0"))
    del plain["protocol"]
    written = parse_sweep(json.dumps(plain))
    assert sweeps[1].mechanisms == written.mechanisms
    assert [cell.cell_id for cell in expand(sweeps[1])] == [cell.cell_id for cell in expand(written)]


def test_a_drawn_value_is_the_one_that_a_file_would_hold() -> None:
    """A sum of floats and the literal give one identity."""
    study = study_of(weight({"low": 0.0, "high": 1.0}), {"tuning": {"sampler": "random", "trials": 2}})
    drawn, written = (study.sweep_for({WEIGHT: value}) for value in (0.1 + 0.2, 0.3))
    assert drawn.mechanisms == written.mechanisms


def test_wrong_values_are_refused() -> None:
    """Before anything is built."""
    study = study_of()
    for values in ({}, {WEIGHT: 0.7}, {WEIGHT: 0.5, "arm.scoring.kind": "h2o"}):
        with pytest.raises(DeclarationError, match=r"arm\.scoring"):
            study.sweep_for(values)


def test_values_that_make_no_mechanism_are_refused() -> None:
    """A range is only tried at its ends when the file is read; what lies between is told when it is drawn."""
    study = study_of(tuned(scoring={"kind": "snapkv", "kernel": {"tune": {"low": 3, "high": 9}}}))
    assert study.sweep_for({"arm.scoring.kernel": 5}).mechanisms[1].name == "arm"
    with pytest.raises(DeclarationError, match=r"<study>:1:\d+: mechanisms\[1\]\.scoring: .*kernel=4"):
        study.sweep_for({"arm.scoring.kernel": 4})


def test_a_development_sweep_never_has_a_heldout_task() -> None:
    """For any values; and its problems are none of the held-out ones."""
    study = study_of(protocol_changes={"heldout": [HELDOUT, {"name": "math500", "split": "confirm"}]})
    heldout = {problem.problem_id for task in CONFIRM for problem in task.load()}
    assert heldout
    for values in grid(study.space):
        sweep = study.sweep_for(values)
        assert sweep.tasks == DEV
        assert heldout.isdisjoint(problem.problem_id for task in sweep.tasks for problem in task.load())
    assert study.sweep.tasks == DEV


class Lookalike(NamedTuple):
    """Has what a key has."""

    registration: str = "r"
    heldout: str = "h"
    look: int = 1
    ledger_head: str = "0"


@pytest.mark.parametrize("key", [None, True, "key", object(), Lookalike(), HeldoutKey])
def test_heldout_tasks_need_a_key(key: Any) -> None:
    """Nothing but a HeldoutKey will do, and one cannot be made by hand."""
    with pytest.raises(TypeError, match="held-out tasks need a HeldoutKey"):
        study_of().heldout_sweep({WEIGHT: 0.5}, key)
    with pytest.raises(TypeError):
        study_of().heldout_sweep({WEIGHT: 0.5})  # type: ignore[call-arg]
    with pytest.raises(ProtocolError):
        HeldoutKey(registration="r", heldout="h", look=1, ledger_head="0")


def test_a_key_opens_the_heldout_tasks(tmp_path: Path) -> None:
    """Only tasks and replicates differ from the development sweep with the same values."""
    study = study_of()
    sweep, dev = study.heldout_sweep({WEIGHT: 1.5}, key_of(study, tmp_path)), study.sweep_for({WEIGHT: 1.5})
    assert (sweep.tasks, sweep.seeds.count, dev.seeds.count) == (CONFIRM, 2, 1)
    assert (sweep.mechanisms, sweep.budgets, sweep.models) == (dev.mechanisms, dev.budgets, dev.models)
    assert (sweep.generation, sweep.exclude, sweep.seeds.root) == (dev.generation, dev.exclude, dev.seeds.root)


def test_a_key_opens_its_own_problems_only(tmp_path: Path) -> None:
    """Another study's held-out problems, or more of them, are not what the ledger says was looked at."""
    key = key_of(study_of(), tmp_path)
    more = study_of(protocol_changes={"heldout": [{**HELDOUT, "problems": 6}]})
    with pytest.raises(ProtocolError, match="must be those of the key"):
        more.heldout_sweep({WEIGHT: 0.5}, key)


def test_records_hold_hashes_and_no_text() -> None:
    """What a registration says of the data."""
    records = study_of().data_records()
    assert [task["split"] for task in records["dev"] + records["heldout"]] == ["dev", "confirm"]
    assert len(records["heldout"][0]["problems"]) == 5
    texts = [problem.prompt for task in (*DEV, *CONFIRM) for problem in task.load()]
    assert not any(text in json.dumps(records) for text in texts)
    assert heldout_hash({"data": records}) == heldout_hash({"data": {"heldout": records["heldout"]}})


def test_what_development_and_heldout_share_is_told() -> None:
    """Two files of one task may hold the same problem under two ids."""
    assert study_of().overlaps() == []


def test_shared_problems_are_found_by_text(tmp_path: Path) -> None:
    """The dev and confirm splits of two different files."""
    ids = {bucket: next(f"{i}" for i in range(999) if _bucket(f"{i}") == bucket) for bucket in ("dev", "confirm")}
    for split, name in ids.items():
        row = {"unique_id": name, "problem": "What is 3 + 4?", "answer": "7"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    text = study_text(
        tasks=[{"name": "math500", "split": "dev", "path": "dev.jsonl"}],
        protocol_changes={"heldout": [{"name": "math500", "split": "confirm", "path": "confirm.jsonl"}]},
    )
    (found,) = parse_study(text, tmp_path).overlaps()
    assert "have the same text" in found


def _bucket(name: str) -> str:
    from designspace.protocol.splits import paper_split

    return paper_split(name)


def test_hypotheses_are_contrasts_times_cells() -> None:
    """Excluded cells and cells that no match names are left out."""
    arm = weight({"choices": [0.5, 1.0]})
    contrasts = [
        {"id": "all", "arm": "arm", "baseline": "base"},
        {
            "id": "some",
            "arm": "base",
            "baseline": "arm",
            "cells": [{"budget": 96}, {"model": "pocket-qwen2", "budget": 48}],
        },
        {
            "id": "margin",
            "arm": "arm",
            "baseline": "base",
            "kind": "non-inferiority",
            "margin": 0.03,
            "cells": [{"budget": 48}],
        },
    ]
    study = study_of(
        arm,
        {"contrasts": contrasts},
        models=["pocket-llama", "pocket-qwen2"],
        exclude=[{"mechanism": "arm", "model": "pocket-llama", "budget": 48}],
    )
    ids = [found["id"] for found in study.hypotheses()]
    place = "chain-arithmetic/pocket"
    assert ids == [
        *(f"all/{place}-{cell}" for cell in ("llama/96", "qwen2/48", "qwen2/96")),
        *(f"some/{place}-{cell}" for cell in ("llama/96", "qwen2/48", "qwen2/96")),
        f"margin/{place}-qwen2/48",
    ]
    assert study.hypotheses()[-1]["margin"] == 0.03
    assert [str(budget) for _, budget in study.cells(study.protocol.contrasts[0])] == ["96", "48", "96"]


def test_arms_show_what_is_tuned() -> None:
    """The value is unknown when a study is registered; everything else is there."""
    arms = study_of().arms()
    assert arms["arm"]["scoring"]["selector"]["weight"] == {"tune": WEIGHT}
    assert arms["arm"]["scoring"]["kind"] == "snapkv"
    assert "tune" not in json.dumps(arms["base"])
    nested = tuned(scoring={"tune": {"choices": ["h2o", {"kind": "tova", "recent": {"tune": {"choices": [1, 2]}}}]}})
    assert study_of(nested).arms()["arm"]["scoring"] == {"tune": "arm.scoring"}
    assert study_of({"name": "arm", "base": {"tune": {"choices": ["h2o", "tova"]}}}).arms()["arm"] == {
        "tune": "arm.base"
    }


def test_the_share_of_a_window_can_be_tuned() -> None:
    """As a number of its own, or as one choice among numbers of tokens."""
    share = {"low": 0.25, "high": 0.75, "step": 0.25}
    study = study_of(tuned(scoring={"kind": "h2o", "recent": {"share": {"tune": share}}}))
    windows = [study.sweep_for(values).mechanisms[1].scoring.recent for values in grid(study.space)]
    assert [WindowShare(0.25), WindowShare(0.5), WindowShare(0.75)] == windows
    assert study.arms()["arm"]["scoring"]["recent"] == {"share": {"tune": "arm.scoring.recent.share"}}
    choices = study_of(tuned(scoring={"kind": "h2o", "recent": {"tune": {"choices": [8, {"share": 0.5}]}}}))
    windows = [choices.sweep_for(values).mechanisms[1].scoring.recent for values in grid(choices.space)]
    assert [8, WindowShare(0.5)] == windows


def test_a_parameter_that_its_value_leaves_out_is_shown_too() -> None:
    """`group: mean` is no part of an identity; the placeholder is."""
    arm = study_of(
        tuned(scoring={"kind": "snapkv", "kernel": 5, "group": {"tune": {"choices": ["mean", "max"]}}})
    ).arms()["arm"]
    assert arm["scoring"]["group"] == {"tune": "arm.scoring.group"}
    assert arm["scoring"]["kind"] == "snapkv"


def test_what_a_study_tells_can_be_registered(tmp_path: Path) -> None:
    """Hypotheses, data, arms and tuning are in the form that a registration wants."""
    study = study_of()
    assert study.protocol.tuning is not None
    tuning = tuning_document(study.space, study.protocol.tuning)
    made = registered(study, arms=study.arms(), tuning=tuning, decision=study.protocol.decision)
    entry = LookLedger(tmp_path / "ledger.jsonl").register(make_registration(made))
    assert entry.heldout == heldout_hash(made)


def test_a_study_without_placeholders_needs_no_tuning() -> None:
    """Its one sweep has no values."""
    study = study_of(tuned(scoring="h2o"), {"tuning": None})
    assert (study.space, study.sweep_for({})) == ((), study.sweep)


def test_defaults_are_written_out() -> None:
    """A registration must name draws, correction and tolerance."""
    spec = study_of().protocol
    assert (spec.test.resamples, spec.test.seed) == (10_000, 1)
    assert (spec.alpha, spec.correction, spec.tolerance, spec.metric) == (0.05, "bonferroni", 0.02, "accuracy")
    exact = study_of(protocol_changes={"test": {"name": "mcnemar_exact"}, "replicates": 1}).protocol.test
    assert (exact.resamples, exact.seed) == (None, None)


def test_the_tests_are_those_of_the_core() -> None:
    """One list says which tests may be registered."""
    assert set(get_args(PairedTest.model_fields["name"].annotation)) == set(REGISTERED_TESTS)


def test_paths_start_at_the_studys_folder(tmp_path: Path) -> None:
    """Held-out files too."""
    row = {"unique_id": "a", "problem": "1+1", "answer": "2"}
    (tmp_path / "held.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    text = study_text(protocol_changes={"heldout": [{"name": "math500", "split": "all", "path": "held.jsonl"}]})
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    for study in (load_study(tmp_path / "study.yaml"), parse_study(text, tmp_path)):
        (task,) = study.data_records()["heldout"]
        assert [problem["id"] for problem in task["problems"]] == ["a"]


def test_a_study_cannot_be_loaded_as_a_sweep(tmp_path: Path) -> None:
    """A run of it would be a look that nobody notes."""
    path = tmp_path / "study.yaml"
    path.write_text(study_text(), encoding="utf-8")
    with pytest.raises(DeclarationError, match="a file with a protocol is a study"):
        load_sweep(path)


@pytest.mark.parametrize("decoding", [{"kind": "teacher-forced"}, {"tune": {"choices": ["greedy", "teacher-forced"]}}])
def test_no_arm_of_a_study_of_accuracies_is_fed_its_texts(decoding: dict[str, Any]) -> None:
    """Such an arm has none, whatever value tuning would choose."""
    changes = {"tuning": None} if "kind" in decoding else None
    with pytest.raises(
        DeclarationError, match="needs arms that write their texts, and mechanism 'arm' is teacher-forced"
    ):
        study_of(tuned(decoding=decoding), changes)


BY_AGREEMENT = {"metric": "forced_agreement", "replicates": 1}


@pytest.mark.parametrize(
    ("decoding", "changes", "message"),
    [
        (
            "greedy",
            BY_AGREEMENT,
            "metric forced_agreement needs teacher-forced arms, and mechanism 'arm' writes its texts",
        ),
        (
            {"kind": "teacher-forced", "of": "solution"},
            BY_AGREEMENT,
            "arm and baseline must be fed the same texts, got of: solution and of: full",
        ),
        ("teacher-forced", {"metric": "forced_agreement"}, "one replicate is enough, got replicates=2"),
        ("teacher-forced", {**BY_AGREEMENT, "test": {"name": "mcnemar_exact"}}, "mcnemar_exact needs right or wrong"),
    ],
)
def test_a_study_of_agreement_wants_arms_that_are_fed_the_same_texts(
    decoding: Any, changes: dict[str, Any], message: str
) -> None:
    """Or its numbers would say nothing about the arms."""
    with pytest.raises(DeclarationError, match=message):
        study_of(tuned(decoding=decoding), {**changes, "tuning": None}, base={"decoding": "teacher-forced"})


def test_a_study_of_agreement_is_registered_with_its_metric() -> None:
    """With everything as it should be."""
    arm = {"name": "arm", "base": "h2o", "decoding": "teacher-forced"}
    study = study_of(arm, {**BY_AGREEMENT, "tuning": None}, base={"decoding": "teacher-forced"})
    assert study.protocol.metric == "forced_agreement" and len(study.hypotheses()) > 0
