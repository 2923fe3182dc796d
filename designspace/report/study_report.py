"""What a report says of one study: what is missing, the arms on their common problems, what to know before comparing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from designspace.report.arm_rows import AT_HAND, COLUMNS, Arms, arm_rows
from designspace.report.common_problems import CommonProblems, on_common_problems
from designspace.report.declared import Declared, OtherCells, other_cells, settings_by_model
from designspace.report.fidelity import ArmFidelity, fed, fidelity_of
from designspace.report.identical_texts import IdenticalArms, arm_name, identical_arms
from designspace.report.labels import relabelled
from designspace.report.missing import Progress, missing_sentences, progress_of, shards_by_cell
from designspace.report.notes import (
    common_notes,
    fidelity_notes,
    identical_notes,
    notes,
    other_notes,
    prompt_notes,
    settings_notes,
)
from designspace.report.other_prompts import other_prompts
from designspace.report.summary import TOLERANCE, ArmSummary, summarise_arms, to_json, written
from designspace.store import ResultsStore


@dataclass(frozen=True)
class StudyReport:
    """One study in numbers.

    Attributes:
        studies: whose rows these are: one name, or those of a bare table.
        arms: that wrote their texts, on the problems that all arms of a place have.
        fidelity: of the arms that were fed theirs, on the problems that all of those have.
        missing: what is not there yet, to be said first; empty where all is.
        notes: what a reader must know before believing the numbers.
        common: how many problems are common, place by place.
        others: cells of the folder that are not in any number here.
        progress: arm by arm; None where no declaration says what there should be.
        tolerance: of realised means.
        rows: those that the arms sum up, arm by arm; `designspace.report.contrasts` pairs them.
    """

    studies: tuple[str, ...]
    arms: tuple[ArmSummary, ...]
    fidelity: tuple[ArmFidelity, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    common: tuple[CommonProblems, ...] = ()
    others: tuple[OtherCells, ...] = ()
    progress: Progress | None = None
    tolerance: float = TOLERANCE
    rows: Arms = field(default_factory=dict, repr=False, compare=False)

    def document(self) -> dict[str, Any]:
        """Return the report as plain JSON data; what is missing comes first among the notes."""
        return {
            **to_json(self.arms, [*self.missing, *self.notes]),
            "fidelity": [found.document() for found in self.fidelity],
            "studies": list(self.studies),
            "progress": None if self.progress is None else self.progress.document(),
            "common_problems": [
                {**found.place._asdict(), **{k: v for k, v in asdict(found).items() if k != "place"}}
                for found in self.common
            ],
            "others": [asdict(cells) for cells in self.others],
        }


def study_report(
    store: ResultsStore, declared: Declared | None, table: pa.Table | None = None, tolerance: float = TOLERANCE
) -> StudyReport:
    """Return the report of a study, of its own cells alone and under the labels that it has for them.

    Args:
        store: the results folder.
        declared: the study, from `declared_study` or from a sweep file; None takes every cell, each configuration apart.
        table: those of its rows that may be shown; None takes all of them.
        tolerance: relative difference of realised means up to which arms count as matched.
    """
    labels = None if declared is None else declared.labels
    if table is None:
        table = store.samples(["study", *COLUMNS, *AT_HAND], cell_ids=labels).to_table()
    if declared is None or labels is None:
        return table_report(table, tolerance)
    table = relabelled(table, labels)
    stored = store.shards()
    progress = progress_of(declared, shards_by_cell(stored), table)
    others = other_cells(store, stored, labels)
    found = table_report(table, tolerance)
    return replace(
        found,
        studies=(declared.study,),
        missing=tuple(missing_sentences(progress)),
        notes=(*found.notes, *settings_notes(settings_by_model(declared.document)), *other_notes(others)),
        others=tuple(others),
        progress=progress,
    )


def table_report(table: pa.Table, tolerance: float = TOLERANCE) -> StudyReport:
    """Return the report of rows, whatever studies they are of: arms on their common problems, configurations apart.

    Args:
        table: rows joined with grades, as `ResultsStore.samples().to_table()` gives them.
        tolerance: as for `study_report`.

    Raises:
        StoreError: a column is missing.
    """
    everything = arm_rows(table)
    rows, common = on_common_problems(written(everything))
    fed_rows, fed_common = on_common_problems(fed(everything))
    arms = _withheld(summarise_arms(rows, tolerance), common)
    faithful = fidelity_of(fed_rows, tolerance)
    identical = _in_order(identical_arms(rows), arms)
    arms = _marked(arms, identical)
    studies = sorted(set(table["study"].to_pylist())) if "study" in table.column_names else []
    prompts = prompt_notes(other_prompts(rows))
    said = (*common_notes(common), *prompts, *identical_notes(identical), *notes(arms, tolerance))
    said = (*said, *fidelity_notes(fed_common, [found.cache for found in faithful], tolerance))
    return StudyReport(
        tuple(studies), tuple(arms), tuple(faithful), notes=said, common=tuple(common), tolerance=tolerance, rows=rows
    )


def _withheld(arms: Sequence[ArmSummary], common: Iterable[CommonProblems]) -> list[ArmSummary]:
    """Return the arms, without accuracies where they have no problem in common to be compared on."""
    apart = {found.place for found in common if found.n_common == 0}
    return [
        replace(
            arm, accuracy=None, interval=None, lenient_accuracy=None, extraction_rate=None, accuracy_given_extraction=None,
            kinds=(),
        )
        if arm.place in apart
        else arm
        for arm in arms
    ]  # fmt: skip


def _in_order(identical: Iterable[IdenticalArms], arms: Sequence[ArmSummary]) -> list[IdenticalArms]:
    """Return the same with the arms of each set in the order in which they are shown."""
    shown = {(arm.group, arm.mechanism): index for index, arm in enumerate(arms)}
    return [
        replace(found, keys=tuple(sorted(found.keys, key=lambda key: shown[key.group, key.name])))
        for found in identical
    ]


def _marked(arms: Sequence[ArmSummary], identical: Iterable[IdenticalArms]) -> list[ArmSummary]:
    """Return the arms, each that has identical texts to another one with the name of the first such arm."""
    twin = {}
    for found in identical:
        for key in found.keys:
            other = next(one for one in found.keys if one != key)
            twin[key.group, key.name] = arm_name(other, beside=key)
    return [replace(arm, identical_to=twin.get((arm.group, arm.mechanism))) for arm in arms]
