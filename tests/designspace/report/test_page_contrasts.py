"""The page holds arms against others, as many as there is room for; those that are named always."""

from __future__ import annotations

import pytest

from designspace.errors import UnknownName
from designspace.report import table_report
from designspace.report.contrasts import contrasts
from designspace.report.page_contrasts import COLUMNS, MOST_CONTRASTS, MOST_DRAWN_CONTRASTS, page_contrasts


def rows_of(found):
    """Return the rows as dictionaries."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in found["rows"]]


def test_numbers_are_those_of_the_report(small):
    """Every arm against every other, the reference first; what is void says why."""
    report = table_report(small)
    found = page_contrasts(report)
    rows = rows_of(found)

    assert list(dict.fromkeys(row["against"] for row in rows)) == ["full", "greedy", "r-kv", "h2o"]
    assert found["n_left_out"] == 0
    for name in ("full", "h2o"):
        expected = [(one.arm, one.points, one.void) for one in contrasts(report, name)]
        assert [(row["arm"], row["points"], row["void"]) for row in rows if row["against"] == name] == expected


@pytest.mark.parametrize(("replicates", "most"), [(1, MOST_CONTRASTS), (2, MOST_DRAWN_CONTRASTS)])
def test_a_large_study_leaves_some_out(make_table, monkeypatch, replicates, most):
    """No more than there is room for, and it says how many; one that is named takes the place of another."""
    asked = []
    monkeypatch.setattr("designspace.report.page_contrasts.contrasts", lambda _, name: asked.append(name) or [])
    n_arms = 60
    rows = [
        {"mechanism": f"m{i:02d}", "replicate": r, "correct": i % 2 == 0}
        for i in range(n_arms)
        for r in range(replicates)
    ]
    report = table_report(make_table(*rows))

    found = page_contrasts(report, ["m59"])
    assert asked[0] == "m59"
    assert len(asked) == len(set(asked)) == most // n_arms
    assert found["n_left_out"] == n_arms - len(asked)


def test_an_unknown_arm_is_refused(small):
    """With the nearest name."""
    with pytest.raises(UnknownName, match="h2o"):
        page_contrasts(table_report(small), ["h20"])
