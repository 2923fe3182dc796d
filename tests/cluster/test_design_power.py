"""What a registration says of its power is true of the tests it registers, and a design that cannot reject is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.evidence import register
from cluster.evidence.design_power import power
from designspace.cli import app as cli
from designspace.cli.options import power_text
from designspace.errors import ProtocolError
from designspace.statistics import BetaAccuracies, StudyDesign, estimate_power, minimum_detectable_effect
from designspace.tasks.task_spec import forget_problems
from sweeps.study import load_study
from tests.cluster.test_evidence import write_problems, write_study

SUPERIORITY = "[{id: arm-vs-baseline, arm: arm, baseline: baseline}]"
NO_HARM = "[{id: a, arm: arm, baseline: baseline, kind: non-inferiority, margin: 0.2}]"


def study_with(folder: Path, n_heldout: int, *, contrasts: str = SUPERIORITY, test: str, replicates: int = 2) -> Path:
    """Write a study on so many held-out problems."""
    file = write_study(folder)
    write_problems(folder / "heldout.jsonl", 10, n_heldout)
    text = file.read_text()
    text = text.replace(SUPERIORITY, contrasts).replace("{name: sign_flip, resamples: 200, seed: 1}", test)
    file.write_text(text.replace("replicates: 2", f"replicates: {replicates}"))
    return file


def power_of(file: Path, m: int) -> dict[str, Any]:
    """Return what a study's tests find in a family of m."""
    forget_problems()  # a file may have changed
    study = load_study(file)
    return power(study, study.data_records(), m)


def eight_contrasts() -> str:
    """Return as many hypotheses, on one cell."""
    return "[" + ", ".join(f"{{id: c{i}, arm: arm, baseline: baseline}}" for i in range(8)) + "]"


@pytest.mark.parametrize("reason", [None, "a test"])
def test_too_few_resamples_are_refused_with_the_number_that_would_do(tmp_path: Path, reason: str | None) -> None:
    """100 resamples and a family of eight: no p value below 1/101, and 0.00625 is asked for; no reason excuses it."""
    test = "{name: sign_flip, resamples: 100, seed: 1}"
    file = study_with(tmp_path, 64, contrasts=eight_contrasts(), test=test)
    with pytest.raises(ProtocolError) as caught:
        register(file, tmp_path / "results", underpowered=reason)
    assert "sign_flip with 100 resamples gives no p value below 0.0099, and only p up to 0.00625 counts" in str(
        caught.value
    )
    needed = re.search(r"at least (\d+) resamples", str(caught.value))

    assert needed is not None and needed[1] == "159"
    assert not (tmp_path / "results").exists()
    file.write_text(file.read_text().replace("resamples: 100", f"resamples: {needed[1]}"))
    document = register(file, tmp_path / "results", underpowered="a test")[0].document
    assert document["power"]["tests"][0]["can_reject"]


def test_too_few_problems_are_refused_with_the_number_that_would_do(tmp_path: Path) -> None:
    """Four problems have no sign pattern rare enough, six have; with a reason it is registered, and recorded."""
    test = "{name: sign_flip, resamples: 1000, seed: 1}"
    file = study_with(tmp_path, 4, test=test)
    with pytest.raises(ProtocolError, match=r"no p value below 0.125, .* at least 6 problems are needed"):
        register(file, tmp_path / "results")
    found = register(file, tmp_path / "results", underpowered="a test")[0].document["power"]

    assert (found["tests"][0]["can_reject"], found["tests"][0]["problems_needed"], found["override"]) == (
        False,
        6,
        "a test",
    )
    assert power_of(study_with(tmp_path, 6, test=test), 1)["tests"][0]["can_reject"]


def test_equivalence_on_few_problems_is_refused(tmp_path: Path) -> None:
    """Arms that never differ on six problems still leave room for a difference of 20 points."""
    alike = NO_HARM.replace("non-inferiority", "equivalence")
    file = study_with(tmp_path, 6, contrasts=alike, test="{name: mcnemar_exact}", replicates=1)
    with pytest.raises(
        ProtocolError, match=r"equivalence within 0.2 on 6 held-out problems .* at least 11 problems are needed"
    ):
        register(file, tmp_path / "results")


def test_a_margin_study_has_the_power_of_its_margin_test(tmp_path: Path) -> None:
    """Not that of a test of superiority: how likely no harm is shown where there is none."""
    file = study_with(tmp_path, 150, contrasts=NO_HARM, test="{name: mcnemar_exact}", replicates=1)
    found = power_of(file, 1)
    design = StudyDesign(BetaAccuracies(1, 1), 150, 1, test="non_inferiority", margin=0.2, effect_spread=0.5)

    assert found["minimum_detectable_effect"] is None
    assert [test["power_without_difference"] for test in found["tests"]] == [estimate_power(design, 0.0).power]
    assert found["tests"][0]["power_without_difference"] > 0.8
    assert "shows non-inferiority within 20.0 points with a power of" in power_text(found, 1)
    register(file, tmp_path / "results")  # nothing to excuse


def test_a_margin_that_would_mostly_be_missed_is_refused(tmp_path: Path) -> None:
    """40 problems show the absence of a loss of 20 points too seldom; a superiority test has no say in it."""
    file = study_with(tmp_path, 40, contrasts=NO_HARM, test="{name: mcnemar_exact}", replicates=1)
    with pytest.raises(ProtocolError, match=r"non-inferiority within 0.2 is shown with a power of \d+%"):
        register(file, tmp_path / "results")


def test_power_is_that_of_each_task_by_itself(tmp_path: Path) -> None:
    """Two held-out tasks are two hypotheses, each on its own problems: their sum is nobody's sample."""
    file = study_with(tmp_path, 40, test="{name: sign_flip, resamples: 5000, seed: 1}")
    write_problems(tmp_path / "more.jsonl", 100, 60)
    one = f"heldout: [{{name: gsm8k, split: test, path: {tmp_path}/heldout.jsonl}}]"
    other = f"{{name: more, path: {tmp_path}/more.jsonl, answer: integer}}"
    assert one in file.read_text()
    file.write_text(file.read_text().replace(one, one[:-1] + ", " + other + "]"))
    found = power_of(file, 2)
    design = StudyDesign(
        BetaAccuracies(1, 1), 40, 2, test="sign_flip", n_comparisons=2, effect_spread=0.5, resamples=5000
    )

    assert [test["n_problems"] for test in found["tests"]] == [40, 60]
    assert found["minimum_detectable_effect"] == minimum_detectable_effect(design).effect
    assert "on 40 of them" in power_text(found, 2)


def test_plan_says_that_a_design_cannot_reject(tmp_path: Path) -> None:
    """Before anybody tries to register it."""
    file = study_with(tmp_path, 64, contrasts=eight_contrasts(), test="{name: sign_flip, resamples: 100, seed: 1}")
    done = CliRunner().invoke(cli.app, ["plan", str(file)])

    assert done.exit_code == 0
    assert "finds no effect with a power of 80%" in done.output
    assert "register will refuse it: sign_flip with 100 resamples" in done.output
