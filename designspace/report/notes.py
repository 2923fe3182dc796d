"""Say in words what a reader of the numbers must know before believing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from designspace.report.summary import TOLERANCE, ArmSummary, GroupKey


def notes(arms: Sequence[ArmSummary], tolerance: float = TOLERANCE) -> list[str]:
    """Return the warnings that a set of summaries deserves, in a fixed order; empty when there is nothing to say.

    Args:
        arms: what `summarise` returned.
        tolerance: the one given to `summarise`.
    """
    groups: dict[GroupKey, list[ArmSummary]] = {}
    for arm in arms:
        if arm.budget_tokens is not None:
            groups.setdefault(arm.group, []).append(arm)
    found = []
    for key, members in groups.items():
        place = f"{key.model}, {key.task}/{key.split}, budget {key.budget}"
        found += [f"{place}: {text}" for text in _group_notes(members, tolerance)]
    for arm in arms:
        found += [f"{_place(arm)}: {text}" for text in _arm_notes(arm)]
    found += _grader_notes(arms)
    return found


def _grader_notes(arms: Sequence[ArmSummary]) -> Iterable[str]:
    graders: dict[str, set[str]] = {}
    for arm in arms:
        graders.setdefault(arm.task, set()).update(arm.grader_ids)
    for task, found in graders.items():
        if len(found) > 1:
            yield (
                f"grades of {task} come from {len(found)} graders ({', '.join(sorted(found))}): "
                "run the sweep again, which grades all of its texts alike"
            )


def _group_notes(arms: Sequence[ArmSummary], tolerance: float) -> Iterable[str]:
    unmatched = [arm for arm in arms if arm.comparison == "unmatched"]
    if unmatched:
        reference, unit = unmatched[0].reference_held or 0.0, "bytes" if unmatched[0].budget_of == "bytes" else "tokens"
        held = ", ".join(f"{arm.mechanism} ({arm.held:.1f}, {_off(arm):+.1%})" for arm in unmatched)
        yield (
            f"unmatched, so not to be compared with the others: {held}; the group's median is {reference:.1f} {unit}, "
            f"the tolerance {tolerance:.1%}"
        )
    means = [arm.held for arm in arms if arm.comparison == "matched"]
    if len(means) > 1 and min(means) > 0 and (spread := max(means) / min(means) - 1) > tolerance:
        yield f"the matched arms lie up to {spread:.1%} apart, each within {tolerance:.1%} of their median"
    accuracies = [arm.accuracy for arm in arms if arm.accuracy is not None]
    if len(accuracies) > 1 and len(set(accuracies)) == 1:
        yield f"all {len(accuracies)} arms have the same accuracy, so this setting tells nothing apart"


def _off(arm: ArmSummary) -> float:
    reference = arm.reference_held or 0.0
    return (arm.held - reference) / reference if reference else 0.0


def _arm_notes(arm: ArmSummary) -> Iterable[str]:
    if arm.budget_tokens is not None and arm.event_share == 0:
        yield "no event at all, so the budget does not bite: the texts are shorter than the budget"
    elif arm.budget_tokens is not None and arm.event_share < 0.5:
        yield f"only {arm.event_share:.0%} of the generations had an event"
    if arm.is_off_target:
        yield f"the steady mean is {arm.steady_mean_cache_tokens:.1f} tokens, the budget asks for {arm.budget_tokens}"
    if arm.n_graded == 0:
        yield "nothing is graded: `designspace export --completions` writes the texts for a grader elsewhere"
    elif arm.n_graded < arm.n_generations:
        yield f"{arm.n_generations - arm.n_graded} of {arm.n_generations} generations are not graded"
    if arm.n_cells_per_replicate > 1:
        yield f"the label stands for {arm.n_cells_per_replicate} different configurations: report one study at a time"


def _place(arm: ArmSummary) -> str:
    budget = "" if arm.budget_tokens is None else f", budget {arm.budget}"
    return f"{arm.model}, {arm.task}/{arm.split}{budget}, {arm.mechanism}"
