"""Tune on development problems: trials as cells of the same store, and one frozen selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.code_id import code_id
from cluster.evidence.arms import looked_arms
from cluster.evidence.folder import EvidenceFolder, opened
from cluster.evidence.live import live_document
from cluster.evidence.register import study_of
from cluster.run import RunSettings, run_sweeps
from designspace.errors import ProtocolError
from designspace.protocol import Registration, require_same
from designspace.protocol.problem_records import known_by, problems_of
from designspace.protocol.row_seal import by_shard, graders_of, require_seal, seal_of
from designspace.protocol.selection import Selection, freeze_selection, load_selection
from designspace.store import ResultsStore
from sweeps.expand import Cell, expand
from sweeps.protocol_fields import TuningSpec
from sweeps.scores import problem_means
from sweeps.spec import Sweep
from sweeps.study import Study
from sweeps.tuning import Trial, mean_effects, next_trials, repeats, select, selection_uncertainty

FloatArray = NDArray[np.float64]
Scored = tuple[Trial, FloatArray, float]  # a trial, its effects by cell and problem, their mean


def tune(registration: str | Path, settings: RunSettings | None = None) -> Selection:
    """Run all trials that are missing, select, and freeze the selection; the same call again resumes.

    Raises:
        ProtocolError: nothing to tune, the registration or its ledger does not hold, or a trial could not be run.
        RegistrationMismatch: what is here differs from what was registered.
    """
    folder, registered = opened(registration)
    study = study_of(registered, folder)
    require_unchanged(study, registered)
    rule = study.protocol.tuning
    if rule is None:
        raise ProtocolError(f"study {study.name!r} tunes nothing: confirm it")
    _note_tuning(study, registered, folder)
    path = folder.file(registered.sha256, "selection")
    if path.is_file():
        require_development_rows(load_selection(path, folder.ledger), folder, still_there_only=True)
    scored = _scored_trials(study, rule, registered, folder, settings or RunSettings())
    rows = folder.rows({cell.cell_id for trial, _, _ in scored for cell in expand(study.sweep_for(trial.values))})
    selection = _selection(registered, rule, scored, seal_of(rows))
    arms = looked_arms(study.sweep_for(selection.values).mechanisms)
    freeze_selection(path, selection, folder.ledger, arms=arms, code=code_id())
    return selection


def _scored_trials(
    study: Study, rule: TuningSpec, registered: Registration, folder: EvidenceFolder, settings: RunSettings
) -> list[Scored]:
    """Run the trials wave by wave, what is there already once, and return each with its effects and their mean."""
    scored: list[Scored] = []
    while wave := next_trials(study.space, rule, registered.sha256, [(trial, score) for trial, _, score in scored]):
        sweeps = [replace(study.sweep_for(trial.values), study=f"{study.name}-trial-{trial.number}") for trial in wave]
        outcome = run_sweeps(sweeps, f"{study.name}-tuning", folder.results, settings)
        if not outcome.complete:
            raise ProtocolError(
                f"{len(outcome.quarantined)} shards of the trials were given up: {folder.results}; the same command goes on"
            )
        store = ResultsStore.open(folder.results, create=False)
        for trial, sweep in zip(wave, sweeps, strict=True):
            effects = _effects(study, sweep, store)
            scored.append((trial, effects, float(mean_effects([effects[None]])[0])))
    return scored


def require_unchanged(study: Study, registered: Registration) -> None:
    """Compare everything that was registered with what is here now.

    Raises:
        RegistrationMismatch: carrying every difference by dotted path.
    """
    document = registered.document
    lineage = {"parent": document["parent"], "amendment": document["amendment"], "seen": document["seen"]}
    live = {**live_document(study, override=document["power"]["override"]), **lineage}
    if document["parent"] is not None:
        # The family of an amendment holds its parent's: that part is checked when it is registered.
        live["m"], live["power"] = document["m"], document["power"]
    require_same(document, live)


def require_development_rows(selection: Selection, folder: EvidenceFolder, *, still_there_only: bool = False) -> None:
    """Check that the development rows are those that a selection was made from; earlier versions sealed none.

    Args:
        selection: what was chosen.
        folder: where its rows are.
        still_there_only: pass over shards that are gone, and over grades that are (their file was damaged, so `correct` is
            null), because they are about to be made anew.

    Raises:
        ProtocolError: some were changed, or are gone.
    """
    seal = selection.evidence.get("rows")
    if seal is not None:
        rows = by_shard(folder.rows(set(seal["cells"]), graders=graders_of(seal)))
        ungraded = {shard for shard, of_shard in rows.items() if any(row["correct"] is None for row in of_shard)}
        require_seal(
            seal,
            rows,
            f"selection {selection.sha256[:16]}",
            rows.keys() if still_there_only else None,
            ungraded if still_there_only else (),
        )


def _note_tuning(study: Study, registered: Registration, folder: EvidenceFolder) -> None:
    noted = [e for e in folder.ledger.entries() if e.kind == "tune" and e.registration == registered.sha256]
    if noted:
        return
    ids, contents = known_by(problems_of(registered.document["data"]["dev"]))
    folder.ledger.append(
        "tune",
        registration=registered.sha256,
        problem_ids=ids,
        contents=contents,
        arms=looked_arms(study.sweep.mechanisms),
        code=code_id(),
    )


def _effects(study: Study, sweep: Sweep, store: ResultsStore) -> FloatArray:
    """Return metric(arm) - metric(baseline), [n_cells, n_problems]: cells of all contrasts, problems of all dev tasks."""
    sides: dict[tuple[str, str, str, str], list[Cell]] = {}
    for cell in expand(sweep):
        key = (cell.model.name, cell.task.name, str(cell.budget), cell.mechanism.name)
        sides.setdefault(key, []).append(cell)
    metric, n_replicates = study.protocol.metric, sweep.seeds.count
    scores = {key: problem_means(store, cells, n_replicates, metric) for key, cells in sides.items()}
    rows = []
    for contrast in study.protocol.contrasts:
        for model, budget in study.cells(contrast):
            row: list[float] = []
            for task in sweep.tasks:
                arm, baseline = (
                    scores[model, task.name, str(budget), name] for name in (contrast.arm, contrast.baseline)
                )
                row += [arm[problem] - baseline[problem] for problem in sorted(arm)]
            rows.append(row)
    return np.array(rows, dtype=np.float64)


def _selection(
    registered: Registration, rule: TuningSpec, scored: Sequence[Scored], seal: Mapping[str, Any]
) -> Selection:
    trials = [trial for trial, _, _ in scored]
    chosen = select([(trial, score) for trial, _, score in scored], rule)
    effects = np.stack([effects for _, effects, _ in scored])
    shares = selection_uncertainty(trials, [effects], rule, seed=rule.seed)
    evidence: Mapping[str, Any] = {
        "trials": [
            {
                "number": trial.number,
                "values": dict(trial.values),
                "mean_effect": score,
                "effect_by_cell": effects.mean(axis=1).tolist(),
                "chosen_in_resamples": shares[trial.number],
            }
            for trial, effects, score in scored
        ],
        "selected": chosen.trial.number,
        "tied": list(chosen.tied),
        "rows": seal,
        "repeats": {str(number): first for number, first in repeats(trials).items()},
    }
    return Selection(registered.sha256, dict(chosen.trial.values), dict(evidence))
