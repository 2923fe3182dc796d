"""Which axis matters: main effects and pairwise interactions of a sweep's arms, model by model and budget by budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from designspace.axes import Mechanism
from designspace.errors import DeclarationError
from designspace.protocol.metric import MetricName
from designspace.report import levels
from designspace.report.declared import Declared
from designspace.statistics import (
    AxisEffect,
    FactorialEffects,
    FactorialScores,
    family_size,
    interactions,
    main_effects,
)
from designspace.store import ResultsStore
from families.decoding.teacher_forced import TeacherForced
from sweeps.expand import expand
from sweeps.scores import has_metric, means_of
from sweeps.spec import Sweep


@dataclass(frozen=True)
class GroupEffects:
    """Effects within one model, task and budget: main effects and interactions are one family, corrected together.

    metric: what arms are compared by.
    """

    model: str
    task: str
    budget: str
    references: Mapping[str, str]
    main: FactorialEffects
    pairs: FactorialEffects
    metric: MetricName = "accuracy"

    def document(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "model": self.model,
            "task": self.task,
            "budget": self.budget,
            "metric": self.metric,
            "references": dict(self.references),
            "main": asdict(self.main),
            "interactions": asdict(self.pairs),
        }


class _Cell(NamedTuple):
    """A cell with what effects need to know of it; group: model, task and budget."""

    group: tuple[str, str, str]
    arm: str
    cell_id: str


def axis_effects(sweep: Sweep, store: ResultsStore, metric: MetricName = "accuracy") -> list[GroupEffects]:
    """Return the effects of every axis on which a sweep's arms differ; the first arm's levels are the references.

    metric: what arms are compared by. Those without such a score are left out: arms that are fed their texts have no
    accuracy, and only these have forced_agreement.

    Raises:
        DeclarationError: all arms agree on every axis, or a generation of the sweep is not graded yet.
    """
    identities = sweep.arm_identities()
    composed = {
        mechanism.name: identities[mechanism.name]
        for mechanism in sweep.mechanisms
        if mechanism.budget_applies and has_metric(mechanism, metric)
    }
    cells = [
        _Cell(
            (cell.model.name, f"{cell.task.name}/{cell.task.split}", str(cell.budget)),
            cell.mechanism.name,
            cell.cell_id,
        )
        for cell in expand(sweep)
    ]
    return _effects(store, composed, cells, sweep.seeds.count, metric)


def study_effects(declared: Declared, store: ResultsStore, metric: MetricName = "accuracy") -> list[GroupEffects]:
    """Return the same of a study as its results folder declares it, without its sweep file.

    Raises:
        DeclarationError: as above, or the folder does not say what the arms are composed of.
    """
    arms = declared.document.get("mechanisms", ())
    if not arms:
        raise DeclarationError(
            f"{store.root} does not say what the arms of {declared.study!r} are: give the sweep file"
        )
    composed = {arm["name"]: arm["axes"] for arm in arms if arm["budget_applies"] and _has_metric(arm["axes"], metric)}
    cells = [
        _Cell((cell["model"], f"{cell['task']}/{cell['split']}", cell["budget"]), cell["mechanism"], cell["cell_id"])
        for cell in declared.cells
    ]
    return _effects(store, composed, cells, declared.document["seeds"]["count"], metric)


def _effects(
    store: ResultsStore,
    composed: Mapping[str, Mapping[str, Any]],
    cells: Iterable[_Cell],
    n_replicates: int,
    metric: MetricName,
) -> list[GroupEffects]:
    """Return the effects of arms by name, each with the identity of its axes; cells of other arms are left out."""
    levels_of = levels.axis_levels(composed)
    if not levels_of:
        which = "arms" if metric == "accuracy" else "teacher-forced arms"
        raise DeclarationError(f"effects need {which} that differ in an axis: declare a grid")
    axes, first = tuple(levels_of), next(iter(composed))
    references = {axis: of_arm[first] for axis, of_arm in levels_of.items()}
    groups: dict[tuple[str, str, str], dict[str, list[_Cell]]] = {}
    for cell in cells:
        if cell.arm in composed:
            groups.setdefault(cell.group, {}).setdefault(cell.arm, []).append(cell)
    found = []
    for key, of_group in groups.items():
        scores = _scores(store, axes, levels_of, of_group, n_replicates, metric)
        m = family_size(scores, references)
        main, pairs = (of(scores, references, n_comparisons=m) for of in (main_effects, interactions))
        found.append(GroupEffects(*key, references, main, pairs, metric))
    return found


def _has_metric(axes: Mapping[str, Mapping[str, Any]], metric: MetricName) -> bool:
    is_fed = axes.get("decoding", {}).get("kind") == TeacherForced.kind
    return is_fed == (metric == "forced_agreement")


def axis_levels(arms: Sequence[Mechanism]) -> dict[str, dict[str, str]]:
    """Return axis -> arm -> level, for the axes on which arms differ. A level is a kind, with parameters where kinds repeat."""
    return levels.axis_levels({arm.name: arm.identity() for arm in arms})


EFFECT_COLUMNS = (
    "model", "task", "budget", "metric", "axes", "levels", "references", "effect", "family_low", "family_high", "p_bonferroni",
    "p_holm", "low", "high", "level", "p_value", "n_backgrounds", "n_differing", "n_problems", "n_comparisons",
)  # fmt: skip


def effect_rows(groups: Sequence[GroupEffects]) -> list[dict[str, Any]]:
    """Return every effect as a row of `EFFECT_COLUMNS`, main effects before interactions; effects are shares, 0 to 1."""
    return [
        {
            **{name: getattr(group, name) for name in ("model", "task", "budget", "metric")},
            **asdict(effect),
            **{name: " x ".join(getattr(effect, name)) for name in ("axes", "levels", "references")},
            "n_problems": family.n_problems,
            "n_comparisons": family.n_comparisons,
        }
        for group in groups
        for family in (group.main, group.pairs)
        for effect in family.effects
    ]


def effects_text(groups: Sequence[GroupEffects]) -> str:
    """Return the effects for people: intervals and p values of one family, and above them what they are."""
    compared = {_COMPARED[group.metric] for group in groups} or {_COMPARED["accuracy"]}
    head = _HOW_TO_READ.format(compared=" and ".join(sorted(compared)), alpha=_ALPHA)
    return "\n".join([head, *(line for group in groups for line in _lines(group))])


_ALPHA = 0.05
_COMPARED: Mapping[MetricName, str] = {
    "accuracy": "accuracy",
    "forced_agreement": "agreement of teacher-forced arms",
}
_HOW_TO_READ = """\
Effects are differences of {compared} in percentage points, averaged over problems; p is two-sided, by sign flips.
All effects of one model, task and budget are one family: p is Bonferroni-corrected (times their number, at most 1), and the
intervals in brackets hold together with 95 % confidence. * marks p <= {alpha:g} after this correction."""


def _lines(group: GroupEffects) -> Iterator[str]:
    effects = (*group.main.effects, *group.pairs.effects)
    m = group.main.n_comparisons
    family = "one effect, so nothing to correct for" if m == 1 else f"a family of {m} effects"
    yield ""
    yield f"{group.model}, {group.task}, budget {group.budget}: {group.main.n_problems} problems, {family}"
    yield from (f"  {_line(effect)}" for effect in effects)
    skipped = (*group.main.not_estimable, *group.pairs.not_estimable)
    if skipped:
        effects_, rest = ("effect", "") if len(skipped) == 1 else ("effects", " and others (--json names all)")
        yield (
            f"  no estimate of {len(skipped)} more {effects_}, for want of arms that differ in nothing else: {skipped[0]}{rest}"
        )


def _line(effect: AxisEffect) -> str:
    pairs = zip(effect.axes, effect.levels, effect.references, strict=True)
    name = " x ".join(f"{axis}: {level} over {reference}" for axis, level, reference in pairs)
    mark = " *" if effect.p_bonferroni <= _ALPHA else ""
    nothing = "" if effect.n_differing else " (zero in every problem)"
    return (
        f"{name}: {100 * effect.effect:+.1f} [{100 * effect.family_low:+.1f}, {100 * effect.family_high:+.1f}], "
        f"p = {effect.p_bonferroni:.4f}{mark}{nothing}"
    )


def _scores(
    store: ResultsStore,
    axes: tuple[str, ...],
    levels_of: Mapping[str, Mapping[str, str]],
    cells: Mapping[str, Sequence[_Cell]],
    n_replicates: int,
    metric: MetricName,
) -> FactorialScores:
    names = list(cells)
    means = []
    for name, of_arm in cells.items():
        model, task, budget = of_arm[0].group
        label = f"{model} · {task} · {name} · budget {budget}"
        means.append(means_of(store, {cell.cell_id for cell in of_arm}, n_replicates, metric, label=label))
    problems = sorted(means[0])
    for name, mean in zip(names, means, strict=True):
        if sorted(mean) != problems:
            raise DeclarationError(f"arm {name!r} has not run on the problems of {names[0]!r}: run the sweep first")
    return FactorialScores(
        axes=axes,
        cells=tuple(tuple(levels_of[axis][name] for axis in axes) for name in names),
        problem_ids=tuple(problems),
        accuracy=np.array([[mean[problem] for problem in problems] for mean in means]),
        n_replicates=n_replicates,
    )
