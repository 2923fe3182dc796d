"""Teacher-forced arms in reports: their figures, apart from arms that write, and never an accuracy."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from rich.console import Console

from designspace.report import export_completions, fidelity, print_report, summarise, table_report, write_report
from designspace.report.arm_rows import COLUMNS, FORCED
from designspace.store import RESULTS_SCHEMA
from tests.designspace.report.conftest import result_row

SCHEMA = pa.schema([RESULTS_SCHEMA.field(name) for name in ("study", *COLUMNS, "text", *FORCED)])
UNGRADED = {"grader_id": None, "extracted": None, "correct": None, "lenient_correct": None}
FED = {**UNGRADED, "text": "s2 = 1 s1 = 2", "forced_of": "full", "mechanism": "h2o-forced"}
# problem, replicate, loss, agreement, first disagreement
FIGURES = (("p0", 0, 0.0, 1.0, None), ("p1", 0, 0.5, 0.8, 20), ("p1", 1, 0.7, 0.6, 10), ("p2", 0, 0.3, 0.9, 60))


def table_of(*rows):
    """Return rows of written and fed texts as one table."""
    empty = {"text": "so it is 1", **dict.fromkeys(FORCED)}
    return pa.Table.from_pylist([result_row(**{**empty, **row}) for row in rows], schema=SCHEMA)


def fed_rows(**changes):
    """Return the rows of one fed arm."""
    return [
        {**FED, "problem_id": problem, "replicate": replicate, "forced_loss_over_full": loss, "forced_agreement": agreement,
         "forced_first_disagreement": first, **changes}
        for problem, replicate, loss, agreement, first in FIGURES
    ]  # fmt: skip


WRITTEN = [{"problem_id": f"p{i}", "correct": i > 0} for i in range(3)]


def test_figures_are_means_over_problems():
    """A problem with two texts counts once; a text without a disagreement counts as long as it is."""
    (arm,) = fidelity(table_of(*fed_rows()))
    assert arm.loss_over_full == pytest.approx((0.0 + 0.6 + 0.3) / 3)
    assert arm.agreement == pytest.approx((1.0 + 0.7 + 0.9) / 3)
    assert (0.25, 40.0, "full") == (arm.undisturbed, arm.first_disagreement, arm.of)
    assert arm.loss_interval.low <= arm.loss_over_full <= arm.loss_interval.high
    assert 0.0 <= arm.loss_interval.low < arm.loss_interval.high <= 0.6
    assert (48.0, "matched", None) == (arm.cache.mean_cache_tokens, arm.cache.comparison, arm.cache.accuracy)


def test_the_smallest_loss_comes_first():
    """Within one budget."""
    worse = fed_rows(mechanism="a", forced_loss_over_full=2.0)
    assert ["h2o-forced", "a"] == [arm.cache.mechanism for arm in fidelity(table_of(*worse, *fed_rows()))]


def test_arms_that_were_fed_are_no_arms_that_wrote():
    """They are in no summary, group, median or set of common problems of those, and the other way round."""
    away = fed_rows(mean_cache_tokens=300.0)
    report = table_report(table_of(*WRITTEN, *away[:2]))
    assert (
        ["h2o"] == [arm.mechanism for arm in report.arms] == [a.mechanism for a in summarise(table_of(*WRITTEN, *away))]
    )
    assert (2 / 3, "matched", 3) == (report.arms[0].accuracy, report.arms[0].comparison, report.arms[0].n_problems)
    assert ["matched"] == [arm.cache.comparison for arm in report.fidelity]
    assert not any("identical" in note.lower() or "not graded" in note for note in report.notes)


def test_unmatched_fed_arms_are_marked():
    """Among themselves the rule is that of all arms."""
    others = [
        row for i, size in enumerate((48.0, 48.0, 60.0)) for row in fed_rows(mechanism=f"m{i}", mean_cache_tokens=size)
    ]
    report = table_report(table_of(*others))
    assert {"m0": "matched", "m1": "matched", "m2": "unmatched"} == {
        arm.cache.mechanism: arm.cache.comparison for arm in report.fidelity
    }
    assert any(note.startswith("teacher-forced: ") and "m2 (60.0 tokens" in note for note in report.notes)


def test_the_terminal_shows_a_table_of_their_own():
    """Below the accuracies, within 80 columns, with loss and agreement."""
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report = table_report(table_of(*WRITTEN, *fed_rows()))
    print_report(report.arms, report.notes, console, fidelity=report.fidelity)
    text = console.export_text()
    line = next(line for line in text.splitlines() if "h2o-forced" in line)
    assert ["h2o-forced", "full", "0.300"] == line.split()[:3]
    assert ["86.7", "25", "40", "48.0"] == line.split()[-4:]
    assert text.index("66.7") < text.index("Fidelity · pocket")
    assert max(map(len, text.splitlines())) <= 80


def test_page_and_json_show_them_apart(tmp_path):
    """A section of the page, a list of the document; no accuracy in either."""
    report = table_report(table_of(*WRITTEN, *fed_rows()))
    page = write_report(report, tmp_path / "r.html", title="t", environment={}).read_text()
    assert "Fidelity to the full cache" in page
    assert page.index("h2o-forced") > page.index("Fidelity to the full cache")
    (found,) = json.loads(json.dumps(report.document()))["fidelity"]
    assert ("h2o-forced", pytest.approx(0.3)) == (found["mechanism"], found["loss_over_full"])
    assert not {"accuracy", "interval", "kinds", "lenient_accuracy"} & found.keys()


def test_only_fed_arms_make_a_report_too(tmp_path):
    """No line says that there are no rows."""
    report = table_report(table_of(*fed_rows()))
    page = write_report(report, tmp_path / "r.html", title="t", environment={}).read_text()
    assert "No rows yet" not in page
    assert "1 arm" in page


def test_fed_texts_are_no_completions(tmp_path):
    """A grader elsewhere would grade the full cache under the arm's name."""
    table = table_of(*WRITTEN, *fed_rows())
    lines = export_completions(ds.dataset(table), tmp_path / "c.jsonl").read_text().splitlines()
    assert ["h2o"] * 3 == [json.loads(line)["mechanism"] for line in lines]
