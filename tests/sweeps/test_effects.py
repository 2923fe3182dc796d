"""Effects of a sweep's axes, as people read them: one family, its unit, its correction, and what could not be estimated."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from designspace.errors import DeclarationError
from designspace.store import ResultsStore
from sweeps.effects import axis_effects, effects_text
from sweeps.expand import expand
from sweeps.scores import problem_means
from sweeps.spec import Sweep

SweepOf = Callable[..., Sweep]
GRID = {
    "grid": {"scoring": ["h2o", "snapkv"], "head_routing": ["uniform", "ada-kv"], "cadence": ["every-step", "every-k"]}
}


class Outcomes(ResultsStore):
    """A store that knows which problems each arm solves."""

    def __init__(self, sweep: Sweep, solves: Callable[[str, int], bool], n_problems: int = 40) -> None:
        self.arms = {cell.cell_id: cell.mechanism.name for cell in expand(sweep)}
        self.solves, self.n_problems = solves, n_problems

    def samples(
        self, columns: Any = None, *, grader_id: Any = None, cell_ids: Collection[str] | None = None
    ) -> ds.Dataset:
        """Return the outcomes of some cells."""
        rows = [
            {"problem_id": f"p{i:03d}", "correct": self.solves(self.arms[cell_id], i)}
            for cell_id in cell_ids or ()
            for i in range(self.n_problems)
        ]
        return ds.dataset(
            pa.Table.from_pylist(rows, schema=pa.schema({"problem_id": pa.string(), "correct": pa.bool_()}))
        )


def by_scoring(arm: str, problem: int) -> bool:
    """H2o solves three problems in four, snapkv one; nothing else matters."""
    return problem % 4 < (3 if arm.startswith("h2o") else 1)


def text_of(sweep: Sweep, solves: Callable[[str, int], bool] = by_scoring) -> list[str]:
    """Return the lines that are shown."""
    return effects_text(axis_effects(sweep, Outcomes(sweep, solves))).splitlines()


def test_intervals_and_p_values_are_of_one_family(sweep_of: SweepOf) -> None:
    """Three axes of two levels: three main effects and three interactions, corrected together in the text as in the data."""
    sweep = sweep_of(mechanisms=[GRID], budgets=[48])
    [group] = axis_effects(sweep, Outcomes(sweep, by_scoring))
    effects = (*group.main.effects, *group.pairs.effects)

    assert (group.main.n_comparisons, group.pairs.n_comparisons, len(effects)) == (6, 6, 6)
    scoring = effects[0]
    assert scoring.p_bonferroni == pytest.approx(min(1, 6 * scoring.p_value))
    assert scoring.family_low < scoring.low < -0.5 < scoring.high < scoring.family_high
    line = next(line for line in text_of(sweep) if line.startswith("  scoring: snapkv over h2o"))
    assert (
        f"[{100 * scoring.family_low:+.1f}, {100 * scoring.family_high:+.1f}], p = {scoring.p_bonferroni:.4f} *" in line
    )


def test_the_text_says_what_its_numbers_are(sweep_of: SweepOf) -> None:
    """Unit, correction and by what, what the intervals hold for, and what the star means."""
    text = "\n".join(text_of(sweep_of(mechanisms=[GRID], budgets=[48])))
    for words in (
        "percentage points", "Bonferroni-corrected", "hold together with 95 % confidence", "* marks p <= 0.05", "a family of 6",
        "40 problems", "budget 48",
    ):  # fmt: skip
        assert words in text


def test_what_has_no_estimate_takes_one_line_per_group(sweep_of: SweepOf) -> None:
    """Four arms that differ in everything: what cannot be told apart is counted, with an example."""
    arms = ["h2o", "snapkv", "r-kv", "tova", "streaming-llm"]
    lines = text_of(
        sweep_of(mechanisms=[*arms, {"name": "a", "base": "h2o", "head_routing": "ada-kv"}], budgets=[48, 96])
    )
    skipped = [line for line in lines if "no estimate" in line]

    assert len(skipped) == 2
    assert all("more effects" in line and "--json names all" in line for line in skipped)
    assert len(lines) < 20


def test_arms_that_differ_in_one_axis_are_enough(sweep_of: SweepOf) -> None:
    """Then there is no interaction, and with two arms nothing to correct for."""
    lines = text_of(sweep_of(mechanisms=[{"grid": {"scoring": ["h2o", "snapkv"]}}], budgets=[48]))

    assert "one effect, so nothing to correct for" in lines[4]
    assert len([line for line in lines if line.startswith("  ")]) == 1


def test_an_axis_that_changed_nothing_is_said_to_have(sweep_of: SweepOf) -> None:
    """An effect of zero in every problem is no measured zero."""
    lines = text_of(sweep_of(mechanisms=[GRID], budgets=[48]))
    routing = next(line for line in lines if line.startswith("  head_routing"))

    assert "+0.0" in routing
    assert "p = 1.0000 (zero in every problem)" in routing
    noise = np.random.default_rng(0).random(40) < 0.5
    mixed = text_of(sweep_of(mechanisms=[GRID], budgets=[48]), lambda arm, i: bool(noise[i]) != ("ada-kv" in arm))
    assert not any(
        "zero in every problem" in line for line in mixed if line.startswith("  head_routing: ada-kv over uniform: ")
    )


def test_an_unfinished_arm_is_an_error(sweep_of: SweepOf) -> None:
    """It is named, and nothing is estimated from the problems that happen to be there."""
    sweep = sweep_of(mechanisms=[GRID], budgets=[48])
    with pytest.raises(DeclarationError, match="not finished, run it first"):
        axis_effects(sweep, Outcomes(sweep, by_scoring, n_problems=0))


BOTH_WAYS = {
    "name": "{scoring}+{decoding}",
    "grid": {"scoring": ["h2o", "snapkv"], "cadence": ["every-k"], "decoding": ["greedy", "teacher-forced"]},
}


class Agreements(Outcomes):
    """A store that knows how much each fed arm agrees, problem by problem."""

    def samples(
        self, columns: Any = None, *, grader_id: Any = None, cell_ids: Collection[str] | None = None
    ) -> ds.Dataset:
        """Return h2o's agreements, which are 0.05 above snapkv's, under the name that is asked for."""
        assert columns is None or "correct" not in columns
        rows = [
            {
                "problem_id": f"p{i:03d}",
                "forced_agreement": 0.9 + 0.001 * i - 0.05 * self.arms[cell_id].startswith("snapkv"),
            }
            for cell_id in cell_ids or ()
            for i in range(self.n_problems)
        ]
        return ds.dataset(pa.Table.from_pylist(rows))


def test_fed_arms_are_compared_by_agreement_alone(sweep_of: SweepOf) -> None:
    """Of a sweep that runs arms both ways, each metric takes the arms that have it."""
    sweep = sweep_of(mechanisms=[BOTH_WAYS], budgets=[48])
    [fed] = axis_effects(sweep, Agreements(sweep, by_scoring), "forced_agreement")
    [effect] = fed.main.effects
    assert (("snapkv",), pytest.approx(-0.05), 1) == (effect.levels, effect.effect, effect.n_backgrounds)
    assert "differences of agreement of teacher-forced arms in percentage points" in effects_text([fed])
    assert "forced_agreement" == fed.document()["metric"]
    [free] = axis_effects(sweep, Outcomes(sweep, by_scoring))
    assert [("scoring",)] == [effect.axes for effect in free.main.effects]
    assert -0.5 == free.main.effects[0].effect


def test_no_arm_has_the_metric_of_the_other_kind(sweep_of: SweepOf) -> None:
    """A fed text is no answer, and a written one agrees with nothing: each is refused in one line."""
    sweep = sweep_of(mechanisms=[BOTH_WAYS], budgets=[48])
    store = Outcomes(sweep, by_scoring)
    by_name = {cell.mechanism.name: cell for cell in expand(sweep)}
    with pytest.raises(DeclarationError, match=r"teacher-forced arms have no accuracy, got 'h2o\+teacher-forced'"):
        problem_means(store, [by_name["h2o+teacher-forced"]], 1)
    with pytest.raises(DeclarationError, match=r"only teacher-forced arms have forced_agreement, got 'h2o\+greedy'"):
        problem_means(store, [by_name["h2o+greedy"]], 1, "forced_agreement")
    with pytest.raises(DeclarationError, match="effects need teacher-forced arms that differ in an axis"):
        axis_effects(sweep_of(mechanisms=[GRID], budgets=[48]), store, "forced_agreement")
