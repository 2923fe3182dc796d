"""Measurements of arms that ran alone are kept beside results, and the page shows them with the machine that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from designspace.report.cost import FOLDER, Cost, Costs, cost_section, keep_cost, read_costs

SLOW = Cost(
    model="trace-llama", mechanism="h2o", budget="80", rows=64, n_new_tokens=512, step="plain", threads=1,
    machine="a small machine", torch="2.13.0", version="0.1.0", date="2026-11-30 17:00 UTC", load=0.05, tokens_per_s=1234.5,
    runs_tokens_per_s=(1200.0, 1234.5, 1300.25), step_s=0.05184, floor_share=0.25,
)  # fmt: skip
FAST = replace(SLOW, mechanism="full", budget="none", tokens_per_s=9000.0, runs_tokens_per_s=(9000.0,))


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """The same arm measured again on the same machine replaces the earlier one; another number of rows is another one."""
    for cost in (SLOW, FAST, replace(SLOW, rows=8), replace(SLOW, tokens_per_s=1250.0, date="2026-12-01 09:00 UTC")):
        keep_cost(tmp_path, cost)

    costs = read_costs(tmp_path)
    assert costs.unreadable == ()
    assert [(c.mechanism, c.rows, c.tokens_per_s) for c in costs.found] == [
        ("h2o", 64, 1250.0), ("h2o", 8, 1234.5), ("full", 64, 9000.0),
    ]  # fmt: skip
    assert costs.found[2] == FAST


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"model": 1}', "change"])
def test_a_file_that_is_no_measurement_is_named_and_left_out(tmp_path: Path, harm: str) -> None:
    """Also one that lacks a number, or has a text for one."""
    path = keep_cost(tmp_path, SLOW)
    path.write_text(path.read_text().replace("1234.5", '"1234.5"') if harm == "change" else harm)

    costs = read_costs(tmp_path)
    assert costs == Costs((), (path.name,))
    assert f"{path.name}, in {FOLDER}/" in cost_section(costs)


def test_the_page_shows_the_machine_and_the_spread() -> None:
    """Median, least and most; another machine has a table of its own, and what ran beside other work says so."""
    busy = replace(SLOW, mechanism="<b>knorm</b>", load=7.25)
    text = cost_section(Costs((SLOW, busy, replace(SLOW, machine="another")), ()))

    assert text.count("<table>") == 2 and "a small machine, torch 2.13.0, designspace 0.1.0" in text
    assert "<td>1,234</td><td>1,200–1,300</td><td>51.84</td><td>25</td>" in text
    assert "<b>" not in text and "&lt;b&gt;knorm" in text
    assert (
        text.count("beside other work (7.2 cores busy with it): not a cost") == 1
        and text.count('class="unmatched"') <= 1
    )
    assert text.count("<tr class=unmatched>") == 1


def test_where_nothing_is_measured_the_page_says_how() -> None:
    """In a line, and with no number."""
    text = cost_section(Costs((), ()))
    assert "Not measured." in text and "designspace bench MODEL ARM" in text and "<table" not in text
