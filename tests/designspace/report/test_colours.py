"""Colours that are used together stay apart for people who do not see all of them, and stand out from the page."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from designspace.report.figure import DARK, GRID, INK, PAPER, SERIES
from tests.designspace.report.colour_sight import SIGHTS, ciede2000, closest, contrast

APART = 12.0  # CIEDE2000 of any two colours of arms that stand out, of the grey of the others, and of the page
APART_OF_MANY = (
    10.0  # of the eight of the figure without scripts, whose marks differ too and whose names stand beside them
)
CONTRAST = 3.0  # WCAG 2.2, 1.4.11, of what is drawn
TEXT = 4.5  # 1.4.3


def scheme_of(name: str, css: str, *, dark: bool) -> dict[str, str]:
    """Return the colours that a style sheet names, in light or in dark."""
    text = files("designspace").joinpath(*name.split("/"), css).read_text(encoding="utf-8")
    light, _, later = text.partition("prefers-color-scheme: dark")
    found = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", later)) if dark else {})


def picks_of(*, dark: bool) -> tuple[list[str], str]:
    """Return the colours of the arms that stand out with that of the others, and the colour of the page."""
    colours = scheme_of("report/page", "page.css", dark=dark)
    return [colours[f"pick-{slot}"] for slot in range(6)] + [colours["other"]], DARK[PAPER] if dark else PAPER


def series_of(*, dark: bool) -> tuple[list[str], str]:
    """Return the colours of the figure without scripts, and the colour of the page."""
    return [DARK[hue] if dark else hue for hue in SERIES], DARK[PAPER] if dark else PAPER


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((50, -1, 2), (50, 0, 0), 2.3669),
    ],
)
def test_differences_are_those_that_were_published(one, other, apart):
    """Of the table of Sharma, Wu and Dalal."""
    assert ciede2000(np.array([one]), np.array([other]))[0] == pytest.approx(apart, abs=1e-4)


def test_red_and_green_are_alike_to_the_colour_blind_and_to_nobody_else():
    """The measure says so of colours that are known for it."""
    olive, brick = "#7f7a00", "#a86400"
    assert closest([olive, brick], "deuteranopia")[0] < APART < closest([olive, brick], "full")[0]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", SIGHTS)
def test_arms_that_stand_out_have_colours_of_their_own(sight, dark):
    """Six, the grey of all others, and the page."""
    colours, paper = picks_of(dark=dark)
    assert closest([*colours, paper], sight)[0] >= APART


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", SIGHTS)
def test_the_figure_without_scripts_has_colours_of_its_own(sight, dark):
    """Eight, and the page."""
    colours, paper = series_of(dark=dark)
    assert closest([*colours, paper], sight)[0] >= APART_OF_MANY


@pytest.mark.parametrize("dark", [False, True])
def test_marks_stand_out_from_the_page(dark):
    """Those of arms, and the lines of controls and of the map of what was kept."""
    for colours, paper in (picks_of(dark=dark), series_of(dark=dark)):
        assert {hue: contrast(hue, paper) for hue in colours if contrast(hue, paper) < CONTRAST} == {}
    for folder, css, names in (
        ("report/retention", "retention.css", ("held", "missed", "line")),
        ("view/page", "view.css", ("other",)),
    ):
        found = scheme_of(folder, css, dark=dark)
        assert min(contrast(found[name], found["paper"]) for name in names) >= CONTRAST


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", SIGHTS)
def test_the_map_of_what_was_kept_has_two_colours(sight, dark):
    """Held, and missed."""
    found = scheme_of("report/retention", "retention.css", dark=dark)
    assert closest([found["held"], found["missed"], found["paper"]], sight)[0] >= APART


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_the_page(dark):
    """Words, and what the problem browser says in colour."""
    paper = DARK[PAPER] if dark else PAPER
    said = scheme_of("report/page", "problems.css", dark=dark)
    for hue in (DARK[INK] if dark else INK, said["right"], said["wrong"]):
        assert contrast(hue, paper) >= TEXT
    assert contrast(DARK[GRID] if dark else GRID, paper) < CONTRAST  # the grid is no mark, and stays behind them


def test_shapes_tell_apart_what_colours_do_not():
    """As many shapes as colours for arms that stand out; in the other figure no pair repeats before eight times eleven."""
    script = files("designspace.report").joinpath("page", "picks.js").read_text(encoding="utf-8")
    symbols = re.search(r"SYMBOLS = \[(.*?)\]", script)
    assert symbols is not None and len(set(symbols[1].split(", "))) == 6
    from designspace.report.figure import _MARKERS

    pairs = {(SERIES[i % len(SERIES)], _MARKERS[i % len(_MARKERS)]) for i in range(len(SERIES) * len(_MARKERS))}
    assert len(pairs) == len(SERIES) * len(_MARKERS)
