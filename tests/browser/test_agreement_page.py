"""The page of a study by agreement, whose arms were fed their texts: it has no accuracy, and draws what it compares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.test_forced_study import finished_forced_study

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a tiny confirmation."""
    results = finished_forced_study(tmp_path_factory.mktemp("agreement"))
    return next((results / "protocol").glob("*.html"))


@pytest.mark.parametrize("width", [1400, 390])
def test_contrasts_of_agreement_are_drawn_with_their_intervals(browse, confirmed, width):
    """One mark and one interval for the one hypothesis, on an axis that says what it is; nothing of accuracy."""
    window = browse(width)
    tab = window.open(confirmed)

    assert window.said == []
    figure = tab.locator("section.figure[id^=contrasts]")
    assert figure.count() == 1
    assert figure.locator("[data-kind=contrasts] [data-name=arm]").count() == 1
    assert figure.locator("[data-kind='contrast intervals'] [data-name=arm]").count() == 1
    assert "Difference in agreement to baseline" in figure.locator("svg[data-panel]").get_attribute("aria-label")
    assert "registered hypotheses" in figure.locator("p.words").inner_text()
    assert tab.locator("section.figure[id^=accuracy]").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_lines_that_run_together_have_marks_apart(browse, confirmed):
    """How full the caches were: a legend, and for each arm that stands out a mark of its own."""
    tab = browse().open(confirmed)
    figure = tab.locator("section.figure[id^=occupancy]")
    names = figure.locator(".legend li").all_inner_texts()

    assert sorted(names) == ["arm", "baseline"]
    marks = figure.locator("svg[data-panel]").first.locator("[data-kind=occupancies] [data-name]")
    places = marks.evaluate_all("nodes => nodes.map((node) => node.getBoundingClientRect().x)")
    assert len(places) == 2 and abs(places[0] - places[1]) > 8
