"""Says in whole sentences what a reader must know before believing the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from designspace.report import wording
from designspace.report.summary import TOLERANCE, ArmSummary, GroupKey
from designspace.statistics.tolerance import agree


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
                f"The grades of {task} come from {len(found)} graders ({', '.join(sorted(found))}). "
                "Run the sweep again: it then grades all of its texts with one grader."
            )


def _group_notes(arms: Sequence[ArmSummary], tolerance: float) -> Iterable[str]:
    unmatched = [arm for arm in arms if arm.comparison == "unmatched"]
    if unmatched:
        reference, unit = unmatched[0].reference_held or 0.0, "bytes" if unmatched[0].budget_of == "bytes" else "tokens"
        held = ", ".join(
            f"{arm.mechanism} ({wording.number(arm.held)} {unit}, {wording.off_median(arm)})" for arm in unmatched
        )
        these, they, their = ("these arms", "They are", "their") if len(unmatched) > 1 else ("this arm", "It is", "its")
        yield (
            f"Do not compare {these} with the others: {held}. {they} unmatched, which means that {their} mean cache is "
            f"more than {100 * tolerance:g} % away from {wording.number(reference)} {unit}, the median of this budget."
        )
    matched = sorted((arm for arm in arms if arm.comparison == "matched"), key=lambda arm: arm.held)
    if len(matched) > 1 and matched[0].held > 0:
        smallest, largest = matched[0], matched[-1]
        if not agree(largest.held, smallest.held, tolerance):
            yield (
                f"The matched arms are comparable, but the largest cache ({largest.mechanism}) is "
                f"{100 * (largest.held / smallest.held - 1):.1f} % bigger than the smallest ({smallest.mechanism})."
            )
    accuracies = [arm.accuracy for arm in arms if arm.accuracy is not None]
    if len(accuracies) > 1 and len(set(accuracies)) == 1:
        yield f"All {len(accuracies)} arms have the same accuracy, so this budget does not show which one is better."


def _arm_notes(arm: ArmSummary) -> Iterable[str]:
    if arm.budget_tokens is not None and arm.event_share == 0:
        yield "The cache was never cut, because the texts are too short for this budget. The arm does not test its mechanism."
    elif arm.budget_tokens is not None and arm.event_share < 0.5:
        yield f"The cache was cut in only {100 * arm.event_share:.0f} % of the texts; the others fit into the budget."
    if arm.is_off_target:
        yield (
            f"After the first event of a text, the mean cache is {wording.number(arm.steady_mean_cache_tokens)} tokens, "
            f"but the budget asks for {arm.budget_tokens}."
        )
    if arm.n_graded == 0:
        yield (
            "No text is graded here. `designspace export --completions` writes the texts to a file for a grader elsewhere."
        )
    elif arm.n_graded < arm.n_generations:
        n_open = arm.n_generations - arm.n_graded
        yield f"{n_open} of {arm.n_generations} texts are not graded; the accuracy counts the graded ones only."
    if arm.n_cells_per_replicate > 1:
        yield (
            f"This name stands for {arm.n_cells_per_replicate} different configurations in this folder, and the numbers mix "
            "their texts. Do not read them as the numbers of one arm."
        )


def _place(arm: ArmSummary) -> str:
    budget = "" if arm.budget_tokens is None else f", budget {arm.budget}"
    return f"{arm.model}, {arm.task}/{arm.split}{budget}, {arm.mechanism}"
