"""Says in whole sentences what a reader must know before believing the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from designspace.report import wording
from designspace.report.arm_rows import NO_BUDGET, GroupKey
from designspace.report.common_problems import CommonProblems
from designspace.report.declared import OtherCells
from designspace.report.identical_texts import IdenticalArms, arm_name
from designspace.report.other_prompts import OtherPrompts
from designspace.report.summary import TOLERANCE, ArmSummary
from designspace.statistics.tolerance import agree

_NAMED = 4  # arms or cells that are named in one sentence


def notes(arms: Sequence[ArmSummary], tolerance: float = TOLERANCE) -> list[str]:
    """Return the warnings that a set of summaries deserves, in a fixed order; empty when there is nothing to say.

    Args:
        arms: what `summarise` returned.
        tolerance: the one given to `summarise`.
    """
    found = _by_group(arms, tolerance)
    for arm in arms:
        found += [f"{_place(arm)}: {text}" for text in (*_cache_notes(arm), *_grade_notes(arm))]
    return [*found, *_configuration_notes(arms), *_grader_notes(arms), *_code_notes(arms)]


def fidelity_notes(common: Iterable[CommonProblems], arms: Sequence[ArmSummary], tolerance: float) -> list[str]:
    """Return the warnings that arms which were fed their texts deserve, in a fixed order.

    Args:
        common: of these arms alone.
        arms: their caches.
        tolerance: of realised means.
    """
    found = []
    for one in common:
        place = f"{one.place.model}, {one.place.task}/{one.place.split}"
        if one.n_common == 0:
            found.append(
                f"{place}: No problem is common to all {one.n_arms} teacher-forced arms yet: do not compare them."
            )
        elif one.n_left_out:
            found.append(
                f"{place}: The {one.n_arms} teacher-forced arms are compared on the {one.n_common:,} problems that all of them "
                f"have. {one.n_left_out:,} more are in no number here."
            )
    found += [f"teacher-forced: {text}" for text in _by_group(arms, tolerance)]
    for arm in arms:
        found += [f"{_place(arm)}: {text}" for text in _cache_notes(arm)]
    return [*found, *_configuration_notes(arms), *_code_notes(arms)]


def _by_group(arms: Sequence[ArmSummary], tolerance: float) -> list[str]:
    groups: dict[GroupKey, list[ArmSummary]] = {}
    for arm in arms:
        if arm.budget_tokens is not None:
            groups.setdefault(arm.group, []).append(arm)
    found = []
    for key, members in groups.items():
        place = f"{key.model}, {key.task}/{key.split}, budget {key.budget}"
        found += [f"{place}: {text}" for text in _group_notes(members, tolerance)]
    return found


def common_notes(common: Iterable[CommonProblems]) -> Iterable[str]:
    """Yield on how many problems arms are compared, where they do not all have the same ones."""
    for found in common:
        place = f"{found.place.model}, {found.place.task}/{found.place.split}"
        if found.n_left_out and found.n_common:
            yield (
                f"{place}: The {found.n_arms} arms are compared on the {found.n_common:,} problems that all of them have. "
                f"{found.n_left_out:,} more, which some of them lack or which are not graded, are in no number here."
            )
        elif found.n_common == 0:
            yield (
                f"{place}: No problem is common to all {found.n_arms} arms yet, so they cannot be compared and no accuracy is "
                "shown."
            )


def identical_notes(identical: Iterable[IdenticalArms]) -> Iterable[str]:
    """Yield which arms wrote the same texts."""
    for found in identical:
        first, *others = found.keys
        budget = "" if first.budget == NO_BUDGET else f", budget {first.budget}"
        names = ", ".join(arm_name(key, beside=first) for key in others)
        yield (
            f"{first.model}, {first.task}/{first.split}{budget}, {first.name}: Identical texts to {names}: all "
            f"{found.n_texts:,} are equal. Whatever sets these arms apart did nothing here; that they score alike is no result."
        )


def settings_notes(of_models: Mapping[str, str]) -> Iterable[str]:
    """Yield that models generate with unlike settings; of_models: these in words, by the name of the model."""
    if of_models:
        said = "; ".join(f"{model}: {settings}" for model, settings in of_models.items())
        yield (
            f"The models generate with their makers' settings, which differ ({said}), in arms that leave their decoding out: "
            "compare arms within a model."
        )


def prompt_notes(found: Iterable[OtherPrompts]) -> Iterable[str]:
    """Yield which arms read other prompts than most."""
    for place in found:
        most, *others = place.keys
        first = most[0]
        names = "; ".join(", ".join(arm_name(key, beside=first) for key in keys) for keys in others)
        yield (
            f"{first.model}, {first.task}/{first.split}: The prompts of {names} are other tokens than those of the other "
            f"{len(most)} arm{'s' if len(most) > 1 else ''}, so more than the mechanism may set them apart: their decoding "
            "adds to the prompt, or the chat template depends on the day or on the versions of the libraries."
        )


def other_notes(others: Sequence[OtherCells]) -> Iterable[str]:
    """Yield which cells of the folder are not in the report."""
    if not others:
        return
    named = "; ".join(_other(cells) for cells in others[:_NAMED])
    more = f"; and {len(others) - _NAMED} more labels (--json names all)" if len(others) > _NAMED else ""
    n_cells, n_texts = (sum(getattr(cells, of) for cells in others) for of in ("n_cells", "n_texts"))
    cells_, are = ("cell", "is") if n_cells == 1 else ("cells", "are")
    yield (
        f"This folder also holds {n_cells:,} {cells_} with {n_texts:,} texts of other studies, or of this one as it was "
        f"declared before. They {are} in no number here: {named}{more}.".replace("They is", "It is")
    )


def _other(cells: OtherCells) -> str:
    budget = "" if cells.budget == NO_BUDGET else f", budget {cells.budget}"
    n_cells = "1 cell" if cells.n_cells == 1 else f"{cells.n_cells:,} cells"
    return (
        f"{cells.mechanism}{budget} on {cells.model}, {cells.task}/{cells.split} (study {cells.study}): {n_cells}, "
        f"{cells.n_texts:,} texts"
    )


def _configuration_notes(arms: Sequence[ArmSummary]) -> Iterable[str]:
    several: dict[tuple[GroupKey, str], list[str]] = {}
    for arm in arms:
        if arm.configuration is not None:
            name = arm.mechanism.removesuffix(f" [{arm.configuration}]")
            several.setdefault((arm.group, name), []).append(arm.configuration)
    for (group, name), cells in several.items():
        budget = "" if group.budget == NO_BUDGET else f", budget {group.budget}"
        yield (
            f"{group.model}, {group.task}/{group.split}{budget}, {name}: This name stands for {len(cells)} different "
            f"configurations, which are shown apart, by the first digits of their cells: {', '.join(cells)}."
        )


def _code_notes(arms: Sequence[ArmSummary]) -> Iterable[str]:
    """Yield that the texts come from several programs: a difference between arms may be one between programs."""
    made: dict[str, list[str]] = {}
    for arm in arms:
        for code in arm.code_ids:
            made.setdefault(code, []).append(_place(arm))
    if len(made) < 2:
        return
    mixed = [_place(arm) for arm in arms if len(arm.code_ids) > 1]
    within = f" Within one arm: {_list(mixed)}." if mixed else ""
    states = "; ".join(f"{code} ({_list(places)})" for code, places in sorted(made.items()))
    yield (
        f"The texts were made by {len(made)} states of the code, so arms may differ by more than their mechanisms: "
        f"{states}.{within} `designspace run --strict` refuses to go on under another state of the code."
    )


def _list(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return "; ".join(names)
    return f"{'; '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


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


def _cache_notes(arm: ArmSummary) -> Iterable[str]:
    if arm.budget_tokens is not None and arm.event_share == 0:
        yield "The cache was never cut, because the texts are too short for this budget. The arm does not test its mechanism."
    elif arm.budget_tokens is not None and arm.event_share < 0.5:
        yield f"The cache was cut in only {100 * arm.event_share:.0f} % of the texts; the others fit into the budget."
    if arm.is_off_target:
        yield (
            f"After the first event of a text, the mean cache is {wording.number(arm.steady_mean_cache_tokens)} tokens, "
            f"but the budget asks for {arm.budget_tokens}."
        )


def _grade_notes(arm: ArmSummary) -> Iterable[str]:
    if arm.n_graded == 0:
        yield (
            "No text is graded here. `designspace export --completions` writes the texts to a file for a grader elsewhere."
        )
    elif arm.n_graded < arm.n_generations:
        n_open = arm.n_generations - arm.n_graded
        yield f"{n_open} of {arm.n_generations} texts are not graded; the accuracy counts the graded ones only."


def _place(arm: ArmSummary) -> str:
    budget = "" if arm.budget_tokens is None else f", budget {arm.budget}"
    return f"{arm.model}, {arm.task}/{arm.split}{budget}, {arm.mechanism}"
