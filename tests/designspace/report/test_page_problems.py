"""The texts in the page: all of a small study, none of a large one, and no text that could break out of its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from designspace.report import declared_study, table_report, write_report
from designspace.report.page_problems import problems_data
from designspace.view import Index
from tests.designspace.query.stored_study import N_PROBLEMS, SOLVED, write_study


def test_every_text_is_there_with_its_grade_and_ledger(tmp_path: Path) -> None:
    """Under the places that the browser with a server has, too."""
    store = write_study(tmp_path / "quickstart")
    rows = store.samples().to_table()
    data = problems_data(rows, "quickstart", "results/quickstart")
    assert data is not None
    assert data["n_texts"] == len(data["texts"]) == N_PROBLEMS * (1 + 2 * len(SOLVED))
    assert len(data["problems"]) == N_PROBLEMS
    assert data["places"] == Index(store, declared_study(store)).places()
    by_key = {(row["mechanism"], row["budget"], row["problem_id"]): row for row in rows.to_pylist()}
    for text in data["texts"]:
        row = by_key[text["mechanism"], text["budget"], text["problem_id"]]
        assert (text["text"], text["correct"]) == (row["text"], row["correct"])
        assert text["ledger"]["mean_cache_tokens"] == row["mean_cache_tokens"]


def test_too_many_texts_are_not_put_into_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page names the command that shows them."""
    rows = write_study(tmp_path / "quickstart").samples().to_table()
    monkeypatch.setattr("designspace.report.page_problems.MOST_TEXTS", rows.num_rows - 1)
    assert problems_data(rows, "quickstart", "results/quickstart") is None
    page = write_report(table_report(rows), tmp_path / "page.html", title="t", environment={}).read_text()
    assert "designspace view RESULTS" in page


def test_a_text_cannot_end_the_script_that_it_stands_in(tmp_path: Path) -> None:
    """Models write anything."""
    rows = write_study(tmp_path / "quickstart").samples().to_table()
    place = rows.schema.get_field_index("text")
    hostile = ["</script><script>alert(1)</script><!--"] * rows.num_rows
    rows = rows.set_column(place, rows.schema.field(place), [hostile])
    data = problems_data(rows, "quickstart", "results/quickstart")
    page = write_report(
        table_report(rows), tmp_path / "page.html", title="t", environment={}, problems=data
    ).read_text()
    assert "alert(1)</script>" not in page
    embedded = page.split('id="view-data">')[1].split("</script>")[0]
    assert json.loads(embedded)["texts"][0]["text"] == hostile[0]
