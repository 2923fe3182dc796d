"""The figure shows every graded arm with a budget, and its SVG is fit for a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.report import summarise
from designspace.report.figure import DARK, SERIES, accuracy_figure, spread, svg


def test_every_arm_is_labelled(small):
    """Each mechanism by its name, full cache with its size."""
    text = svg(accuracy_figure(summarise(small)), "f")
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"h2o", "r-kv", "greedy", "full (200 tokens)"} <= set(labels)


def test_labels_are_whole(make_table):
    """Names that begin alike are told apart, and the figure is as wide as they need."""
    names = [f"triattention/uniform/{'every-k' * 3}/{kind}" for kind in ("none", "prompt")]
    figure = accuracy_figure(
        summarise(make_table(*({"mechanism": name, "mean_cache_tokens": 40.0 + i} for i, name in enumerate(names))))
    )
    figure.canvas.draw()
    edges = {text.get_text(): text.get_window_extent().x1 for text in figure.axes[0].texts}
    assert set(edges) == set(names)
    assert max(edges.values()) <= figure.bbox.x1


def markers(figure):
    """Where markers are, left to right."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None, "", "none")]
    return sorted(float(x) for line in lines for x in line.get_xdata())


def test_every_marker_is_where_its_arm_was_measured(make_table):
    """Also where three arms of one budget lie on each other: nothing is moved aside."""
    sizes = {"a": 23.9, "b": 24.0, "c": 23.95, "d": 31.0}
    arms = summarise(make_table(*({"mechanism": name, "mean_cache_tokens": size} for name, size in sizes.items())))
    assert markers(accuracy_figure(arms)) == sorted(sizes.values())


def test_budgets_in_bytes_are_drawn_over_bytes(make_table):
    """Coded tokens are many in the same bytes, so tokens would set such arms apart."""
    of_bytes = {"budget": "32 in bytes", "budget_tokens": 32, "budget_of": "bytes"}
    rows = [
        {**of_bytes, "mechanism": "exact", "mean_cache_tokens": 32.0, "mean_cache_bytes": 2048.0},
        {**of_bytes, "mechanism": "coded", "mean_cache_tokens": 91.0, "mean_cache_bytes": 2040.0},
    ]
    figure = accuracy_figure(summarise(make_table(*rows)))
    assert markers(figure) == [2040 / 1024, 2.0]
    assert figure.axes[0].get_xlabel() == "realised mean cache, KiB per text"


def test_no_figure_without_graded_arms(make_table):
    """Full cache alone, or ungraded arms, leave nothing to draw."""
    full = {"budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0}
    assert accuracy_figure(summarise(make_table(full))) is None
    assert accuracy_figure(summarise(make_table({"correct": None, "extracted": None}))) is None
    assert accuracy_figure([]) is None


def test_svg_is_stable_and_refers_to_nothing_outside(small):
    """The same numbers give the same bytes; no address, no date, no fixed colour of the palette."""
    first, second = (svg(accuracy_figure(summarise(small)), "f") for _ in range(2))
    assert first == second
    assert "http" not in first
    assert not any(hue in first for hue in (*SERIES, *DARK))
    assert "var(--series-0)" in first
    ET.fromstring(first.replace("xlink:href", "href"))  # well-formed


def test_two_figures_share_no_ids(small):
    """Ids are unique on a page with several figures, and every reference finds its own."""
    texts = [svg(accuracy_figure(summarise(small)), name) for name in ("one", "two")]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    assert not ids[0] & ids[1]
    for text, own in zip(texts, ids, strict=True):
        assert {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)} <= own


@pytest.mark.parametrize("name", ["$x^{", "<script>alert(1)</script>", 'a" onload="x', 'id="#0072b2"', "名前"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_labels_are_text(make_table, name):
    """A label is neither mathematics nor markup."""
    text = svg(accuracy_figure(summarise(make_table({"mechanism": name}))), "f")
    root = ET.fromstring(text.replace("xlink:href", "href"))
    assert name in {element.text for element in root.iter("text")}


def test_thirty_arms_fit(make_table):
    """The figure grows, so that labels neither overlap nor leave it."""
    rows = [{"mechanism": f"m{i:02d}", "correct": i % 2 == 0} for i in range(30)]
    text = svg(accuracy_figure(summarise(make_table(*rows))), "f")
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', text).group(1))
    found = re.findall(r'<text style="[^"]*" x="[^"]*" y="([^"]+)"[^>]*>m\d\d</text>', text)
    places = sorted(float(y) for y in found)
    assert len(places) == 30
    assert 0 < places[0] < places[-1] < height
    assert min(b - a for a, b in pairwise(places)) > 11


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15).map(sorted))
def test_labels_are_moved_apart_in_order(heights):
    """Neighbours end at least one pitch apart, in order and within the axes; labels that have room stay in place."""
    placed = spread(heights, 0.05)
    assert all(b - a > 0.05 - 1e-9 for a, b in pairwise(placed))
    assert -1e-9 <= placed[0]
    assert placed[-1] <= 1 + 1e-9
    if all(b - a >= 0.051 for a, b in pairwise(heights)):
        assert placed == pytest.approx(heights)
