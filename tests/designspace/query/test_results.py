"""What `open_results` answers: the report's numbers, texts with the token at which they part, and errors that help."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from designspace import open_results
from designspace.errors import DeclarationError, NoResults, UnknownName
from designspace.query import ResultsWarning
from designspace.query.columns_page import columns_page
from designspace.query.problem_texts import first_difference
from designspace.store import RESULTS_SCHEMA, export_results
from designspace.store.column_texts import DESCRIPTION, SAMPLE_TEXTS, UNIT
from tests.conftest import REPOSITORY
from tests.designspace.query.stored_study import solves, text_tokens, write_study


def test_the_summary_is_the_report(results: Path) -> None:
    """One row per arm in its order, with its numbers; whole numbers stay whole where the full cache has none."""
    found = open_results(results)
    arms, report = found.summary(), found.report()

    assert arms["mechanism"].tolist() == [arm.mechanism for arm in report.arms]
    assert arms["accuracy"].tolist() == [arm.accuracy for arm in report.arms]
    assert arms["accuracy_low"].tolist() == [arm.interval.low for arm in report.arms if arm.interval]
    assert arms["budget_tokens"].dropna().tolist() == [80] * 4 + [112] * 4
    assert str(arms["budget_tokens"].dtype) == "Int64"
    assert any("snapkv+none (64.0 tokens" in note for note in found.notes())


def test_contrasts_are_differences_of_the_summary(results: Path) -> None:
    """Each is the difference of two accuracies in points; the unmatched arm has none, and says why."""
    found = open_results(results)
    accuracy = found.summary().set_index(["budget", "mechanism"])["accuracy"]
    contrasts = found.contrasts("h2o+none").set_index(["budget", "arm"])

    for (budget, arm), one in contrasts.iterrows():
        if arm == "snapkv+none":
            assert "snapkv+none has" in one["void"] and str(one["points"]) == "nan"
        else:
            expected = 100 * (accuracy[budget, arm] - accuracy[budget, "h2o+none"])
            assert (one["points"], one["n_comparisons"]) == (pytest.approx(expected), 2)
    assert set(found.contrasts()["against"]) == {"full"}


def test_paired_is_one_contrast_per_budget(results: Path) -> None:
    """Alpha solves seven problems more than h2o at 80, four more at 112."""
    found = open_results(results).paired("alpha+none", "h2o+none")

    assert found["budget"].tolist() == ["80", "112"]
    assert found["n_better"].tolist() == [7, 4]
    assert found["correction"].unique().tolist() == ["none: one contrast"]
    assert found["p_value"].tolist() == found["p_alone"].tolist() == [2 / 2**7, 2 / 2**4]


@pytest.mark.parametrize("against", [None, "alpha+none"])
def test_texts_of_a_problem_part_where_their_tokens_do(results: Path, against: str | None) -> None:
    """Whatever the texts are held against; of the same budget, or else without one."""
    found = open_results(results).texts("trace-dev-00009", against)

    assert len(found) == 9 and found["mechanism"].iloc[0] == "full"
    assert set(found["prompt_text"]) == {"<user>Solve: 1 + 1<assistant>"}
    for row in found.itertuples():
        budget = None if row.budget == "none" else int(row.budget)
        other = text_tokens("full", None, 9) if against is None else text_tokens(against, budget, 9)
        expected = first_difference(text_tokens(row.mechanism, budget, 9), other)
        if against is not None and budget is None:  # alpha has no text without a budget, so there is nothing to leave
            expected = None
        assert (None if str(row.diverges_at) == "<NA>" else row.diverges_at) == expected
        assert row.correct == solves(row.mechanism, budget, 9)


def test_first_difference_by_hand() -> None:
    """Equal, differing, and one that goes on where the other ends."""
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 9, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2
    assert first_difference([], []) is None


def test_a_name_that_is_wrong_gets_the_nearest(results: Path) -> None:
    """Arms, problems, studies; and a folder that holds no results."""
    found = open_results(results)

    with pytest.raises(UnknownName, match=r"unknown arm 'alpha' \(did you mean 'alpha\+none'\?\)"):
        found.paired("alpha", "h2o+none")
    with pytest.raises(UnknownName, match=r"unknown arm 'ful' \(did you mean 'full'"):
        found.contrasts("ful")
    with pytest.raises(UnknownName, match="unknown arm 'fool'"):
        found.texts("trace-dev-00001", "fool")
    with pytest.raises(UnknownName, match=r"unknown problem 'trace-dev-1' \(did you mean 'trace-dev-0001"):
        found.texts("trace-dev-1")
    with pytest.raises(UnknownName, match=r"unknown study 'quikstart' \(did you mean 'quickstart'"):
        open_results(results, study="quikstart")
    with pytest.raises(NoResults, match="no results store at"):
        open_results(results / "nowhere")


def test_several_studies_are_told_apart(tmp_path: Path) -> None:
    """The message says how in Python; each by itself has its own rows, and all rows are there as long as none is named."""
    write_study(tmp_path, "first")
    write_study(tmp_path, "second", n_problems=8)

    with pytest.raises(DeclarationError, match=r"say which one with open_results\(path, study=NAME\): first, second"):
        open_results(tmp_path).summary()
    assert len(open_results(tmp_path).to_pandas(["text"])) == 9 * 12 + 9 * 8
    second = open_results(tmp_path, study="second")
    assert set(second.summary()["n_problems"]) == {8}
    assert len(second.to_pandas(["text"])) == second.dataset.count_rows() == 9 * 8


def test_an_unfinished_study_warns(tmp_path: Path) -> None:
    """Its numbers may still change; the rows themselves are what they are."""
    write_study(tmp_path, leave_out=2)
    found = open_results(tmp_path)

    with pytest.warns(ResultsWarning, match="This study is not finished: 7 of 9 shards are done"):
        found.summary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(found.to_pandas()) == 7 * 12


def test_every_column_says_what_it_is(results: Path, tmp_path: Path) -> None:
    """In the dataset, in an export, and in the frame of columns; no text is left of a column that is gone."""
    found = open_results(results)
    schema = found.dataset.schema
    exported = pq.read_schema(export_results(found.dataset, tmp_path / "rows.parquet"))

    assert list(SAMPLE_TEXTS) == RESULTS_SCHEMA.names == found.columns()["column"].tolist()
    for name in RESULTS_SCHEMA.names:
        text = SAMPLE_TEXTS[name].description.encode()
        assert text.endswith(b".")
        assert schema.field(name).metadata[DESCRIPTION] == exported.field(name).metadata[DESCRIPTION] == text
    assert exported.field("n_evicted").metadata[UNIT] == b"slots"


def test_the_page_on_columns_is_current() -> None:
    """`python -m designspace.query.columns_page > docs/columns.md` was run after the last change of a schema."""
    assert (REPOSITORY / "docs/columns.md").read_text(encoding="utf-8") == columns_page()
