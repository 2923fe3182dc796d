"""The page's figure of how full caches were: means over the texts that reach a step, by plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from designspace.report.page_occupancy import MOST_POINTS, mean_course, page_occupancy
from tests.designspace.query.stored_study import SOLVED, write_study


def flat(courses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of all courses, and their lengths."""
    return np.concatenate(courses), np.array([len(course) for course in courses])


def test_a_point_is_the_mean_of_the_texts_that_reach_its_step() -> None:
    """Texts of three lengths; every step is a point where there are few."""
    courses = [np.array(course, dtype=np.float32) for course in ([1, 2, 3, 4], [3, 4], [5, 6, 7])]
    found = mean_course(*flat(courses))
    assert found["steps"] == [1, 2, 3, 4]
    assert found["tokens"] == pytest.approx([3, 4, 5, 4])


def test_a_long_text_is_averaged_over_runs_of_steps() -> None:
    """By hand, and no more points than there is room for."""
    random = np.random.default_rng(0)
    courses = [random.random(n) * 100 for n in (1000, 700, 999)]
    found = mean_course(*flat(courses))
    run = -(-1000 // MOST_POINTS)
    assert len(found["steps"]) <= MOST_POINTS and found["steps"][:2] == [1, 1 + run]
    for point, first in enumerate(found["steps"]):
        values = [v for course in courses for v in course[first - 1 : first - 1 + run]]
        assert found["tokens"][point] == pytest.approx(sum(values) / len(values), abs=0.01)


def test_every_arm_has_a_line(tmp_path: Path) -> None:
    """The full cache and four arms at two budgets, whose caches were the same at every step here."""
    rows = write_study(tmp_path / "quickstart").samples().to_table()
    lines = page_occupancy(rows)
    assert len(lines) == 1 + 2 * len(SOLVED)
    by_arm = {(line["mechanism"], line["budget"]): line for line in lines}
    assert set(by_arm["h2o+none", "80"]["tokens"]) == {75.2}
    assert set(by_arm["full", "none"]["tokens"]) == {138.0}
    assert [line["budget"] for line in lines] == ["none", *["80"] * len(SOLVED), *["112"] * len(SOLVED)]
