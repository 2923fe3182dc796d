"""A study whose arms are compared by agreement: tuned, confirmed and verified, its numbers recomputed from the rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import pytest

from cluster.evidence import confirm, register, tune, verify
from cluster.evidence.design_power import power
from designspace.query import open_results
from designspace.tasks.task_spec import forget_problems
from sweeps.study import load_study
from tests.cluster.test_evidence import INLINE, report_in, write_problems, write_study

FORCED = "decoding: teacher-forced"


def write_forced_study(folder: Path) -> Path:
    """Write the tiny study with both arms fed their texts."""
    file = write_study(folder)
    text = file.read_text()
    text = text.replace("recent: 2}}", "recent: 2}, " + FORCED + "}").replace(
        "    base: h2o\n", f"    base: h2o\n    {FORCED}\n"
    )
    text = text.replace("replicates: 2", "replicates: 1").replace(
        "protocol:\n", "protocol:\n  metric: forced_agreement\n"
    )
    file.write_text(text)
    return file


def finished_forced_study(folder: Path) -> Path:
    """Register such a study in a folder, tune it and confirm it; return its results."""
    path = register(write_forced_study(folder), folder / "results", underpowered="a test")[1]
    tune(path, INLINE)
    confirm(path, INLINE)
    return folder / "results"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of such a study that went all the way."""
    return finished_forced_study(tmp_path_factory.mktemp("forced"))


def test_the_effect_is_the_mean_difference_of_the_shares_of_agreeing_tokens(done: Path) -> None:
    """From the tokens of the stored texts, in the most obvious way; nothing of it is graded."""
    report = json.loads(report_in(done).read_text())
    (found,) = report["hypotheses"]
    rows = [
        row
        for row in open_results(done).dataset.to_table().to_pylist()
        if row["problem_id"] in {f"q{i}" for i in range(10, 16)}
    ]
    shares = {
        (row["mechanism"], row["problem_id"]): sum(row["forced_agrees"]) / len(row["forced_agrees"]) for row in rows
    }
    differences = [shares["arm", f"q{i}"] - shares["baseline", f"q{i}"] for i in range(10, 16)]
    assert report["metric"] == "forced_agreement" and found["status"] == "ok"
    assert found["effect"] == pytest.approx(fmean(differences), abs=1e-6)
    for side in ("arm", "baseline"):
        expected = fmean(shares[side, f"q{i}"] for i in range(10, 16))
        assert found["arms"][side]["agreement"] == pytest.approx(expected, abs=1e-6)
        assert "accuracy" not in found["arms"][side]
    assert all(row["correct"] is None for row in rows)


def test_the_page_holds_the_contrasts_of_agreement(done: Path) -> None:
    """In points of the sealed report, and said to be of agreement; the tables are those of arms that were fed."""
    page = next((done / "protocol").glob("*.html")).read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    (hypothesis,) = json.loads(report_in(done).read_text())["hypotheses"]
    (row,) = (dict(zip(data["contrasts"]["columns"], row, strict=True)) for row in data["contrasts"]["rows"])
    assert data["contrasts"]["metric"] == "agreement"
    assert (row["arm"], row["against"]) == ("arm", "baseline")
    for key, column in (("effect", "points"), ("low", "low_points"), ("high", "high_points")):
        assert row[column] == pytest.approx(100 * hypothesis[key], abs=1e-6)
    assert {table["kind"] for table in data["tables"]} == {"fidelity"}


def test_every_number_follows_from_the_store(done: Path) -> None:
    """There are no grades to look for."""
    assert verify(report_in(done)) == []


def test_tuning_maximises_agreement(done: Path) -> None:
    """The effects of the trials are those of the development rows."""
    evidence = json.loads(next((done / "protocol").glob("*.selection.json")).read_text())["selection"]["evidence"]
    assert len(evidence["trials"]) == 2
    rows = [
        row
        for row in open_results(done).dataset.to_table().to_pylist()
        if row["problem_id"] in {f"q{i}" for i in range(4)}
    ]
    base = fmean(row["forced_agreement"] for row in rows if row["mechanism"] == "baseline")
    by_cell: dict[str, list[float]] = {}
    for row in rows:
        if row["mechanism"] == "arm":
            by_cell.setdefault(row["cell_id"], []).append(row["forced_agreement"])
    expected = sorted(fmean(shares) - base for shares in by_cell.values())
    assert sorted(trial["mean_effect"] for trial in evidence["trials"]) == pytest.approx(expected, abs=1e-6)


def test_a_share_of_tokens_finds_smaller_effects_than_right_or_wrong(tmp_path: Path) -> None:
    """On the same 64 problems, one text each, with what is assumed written beside it."""
    found = {}
    for name, write in (("accuracy", write_study), ("agreement", write_forced_study)):
        file = write(tmp_path / name)
        write_problems(tmp_path / name / "heldout.jsonl", 10, 64)
        file.write_text(file.read_text().replace("replicates: 2", "replicates: 1"))
        forget_problems()
        study = load_study(file)
        found[name] = power(study, study.data_records(), 1)
    assert found["agreement"]["assumes"]["independent_tokens_per_text"] == 32
    assert "independent_tokens_per_text" not in found["accuracy"]["assumes"]
    assert found["agreement"]["minimum_detectable_effect"] < found["accuracy"]["minimum_detectable_effect"] / 2
