"""Which axis matters: main effects and pairwise interactions of a sweep's arms, model by model and budget by budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from designspace.axes import Mechanism, Strategy
from designspace.canonical import canonical_json
from designspace.errors import DeclarationError
from designspace.protocol.metric import MetricName
from designspace.statistics import (
    AxisEffect,
    FactorialEffects,
    FactorialScores,
    family_size,
    interactions,
    main_effects,
)
from designspace.store import ResultsStore
from sweeps.expand import Cell, expand
from sweeps.scores import has_metric, problem_means
from sweeps.spec import Sweep

AXES = ("scoring", "protect", "selector", "head_routing", "cadence", "representation", "decoding")


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


def axis_effects(sweep: Sweep, store: ResultsStore, metric: MetricName = "accuracy") -> list[GroupEffects]:
    """Return the effects of every axis on which a sweep's arms differ; the first arm's levels are the references.

    metric: what arms are compared by. Those without such a score are left out: arms that are fed their texts have no
    accuracy, and only these have forced_agreement.

    Raises:
        DeclarationError: all arms agree on every axis, or a generation of the sweep is not graded yet.
    """
    arms = [mechanism for mechanism in sweep.mechanisms if mechanism.budget_applies and has_metric(mechanism, metric)]
    levels = axis_levels(arms)
    if not levels:
        which = "arms" if metric == "accuracy" else "teacher-forced arms"
        raise DeclarationError(f"effects need {which} that differ in an axis: declare a grid")
    axes = tuple(levels)
    references = {axis: of_arm[arms[0].name] for axis, of_arm in levels.items()}
    groups: dict[tuple[str, str, str], dict[str, list[Cell]]] = {}
    for cell in expand(sweep):
        if cell.mechanism.budget_applies and has_metric(cell.mechanism, metric):
            key = (cell.model.name, f"{cell.task.name}/{cell.task.split}", str(cell.budget))
            groups.setdefault(key, {}).setdefault(cell.mechanism.name, []).append(cell)
    found = []
    for key, cells in groups.items():
        scores = _scores(store, axes, levels, cells, sweep.seeds.count, metric)
        m = family_size(scores, references)
        main, pairs = (of(scores, references, n_comparisons=m) for of in (main_effects, interactions))
        found.append(GroupEffects(*key, references, main, pairs, metric))
    return found


def axis_levels(arms: Sequence[Mechanism]) -> dict[str, dict[str, str]]:
    """Return axis -> arm -> level, for the axes on which arms differ. A level is a kind, with parameters where kinds repeat."""
    levels: dict[str, dict[str, str]] = {}
    for axis in AXES:
        chosen = {arm.name: _level(arm, axis) for arm in arms}
        distinct = {canonical_json(document): document for document in chosen.values()}
        if len(distinct) < 2:
            continue
        labels = {text: _label(document, list(distinct.values())) for text, document in distinct.items()}
        levels[axis] = {name: labels[canonical_json(document)] for name, document in chosen.items()}
    return levels


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


def _level(arm: Mechanism, axis: str) -> dict[str, Any]:
    if axis == "protect":
        return {"kind": arm.scoring.protect}
    strategy: Strategy | None = arm.scoring.selector if axis == "selector" else getattr(arm, axis)
    if strategy is None:
        return {"kind": "as generation says"}
    identity = strategy.identity()
    return {name: value for name, value in identity.items() if name not in ("selector", "version", "protect")}


def _label(document: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    same_kind = [other for other in others if other["kind"] == document["kind"]]
    differing = [n for n in document if any(other.get(n) != document[n] for other in same_kind)]
    parameters = ", ".join(f"{name}={document[name]}" for name in differing)
    return f"{document['kind']}({parameters})" if parameters else str(document["kind"])


def _scores(
    store: ResultsStore,
    axes: tuple[str, ...],
    levels: Mapping[str, Mapping[str, str]],
    cells: Mapping[str, Sequence[Cell]],
    n_replicates: int,
    metric: MetricName,
) -> FactorialScores:
    names = list(cells)
    means = [problem_means(store, cells[name], n_replicates, metric) for name in names]
    problems = sorted(means[0])
    for name, mean in zip(names, means, strict=True):
        if sorted(mean) != problems:
            raise DeclarationError(f"arm {name!r} has not run on the problems of {names[0]!r}: run the sweep first")
    return FactorialScores(
        axes=axes,
        cells=tuple(tuple(levels[axis][name] for axis in axes) for name in names),
        problem_ids=tuple(problems),
        accuracy=np.array([[mean[problem] for problem in problems] for mean in means]),
        n_replicates=n_replicates,
    )
