"""The document of a study as things are here and now: what is registered, and what a confirmation compares with."""

from __future__ import annotations

from typing import Any

from cluster.code_id import code_id
from cluster.evidence.design_power import power
from cluster.evidence.third_party import third_party_code
from designspace.engine import ENGINE_VERSION
from designspace.environment import environment
from designspace.kernels.build import load_library, switched_off
from designspace.models.calibration import artefact_hash
from designspace.models.model_spec import forget_fingerprints
from designspace.protocol.document import FORMAT
from designspace.tasks.task_spec import forget_problems
from sweeps.identity import IDENTITY_VERSION, calibrations_needed
from sweeps.study import Study
from sweeps.tuning import tuning_document

_MISSING = "a text that was cut off, or holds no answer, counts as incorrect"


def live_document(
    study: Study,
    *,
    parent: dict[str, Any] | None = None,
    parent_sha256: str | None = None,
    reason: str | None = None,
    seen: bool = False,
    override: str | None = None,
) -> dict[str, Any]:
    """Return everything that a registration promises, computed anew.

    parent: the document that this one amends. override: why it is registered although its power is too small.

    Raises:
        DesignspaceError: data, models or calibrations are not here.
    """
    forget_problems()
    forget_fingerprints()
    protocol, sweep, hypotheses, data = study.protocol, study.sweep, study.hypotheses(), study.data_records()
    m = len(hypotheses) + (0 if parent is None else int(parent["m"]))
    return {
        "format": FORMAT,
        "study": study.name,
        "parent": parent_sha256,
        "amendment": reason,
        "source": study.source_text,
        "hypotheses": hypotheses,
        "m": m,
        "metric": protocol.metric,
        "alpha": protocol.alpha,
        "correction": protocol.correction,
        "smallest_effect": protocol.smallest_effect,
        "tolerance": protocol.tolerance,
        "test": protocol.test.model_dump(exclude_none=True),
        "decision": protocol.decision,
        "tuning": None if protocol.tuning is None else tuning_document(study.space, protocol.tuning),
        "arms": study.arms(),
        "data": data,
        "generation": sweep.generation.model_dump(),
        "replicates": protocol.replicates,
        "root_seed": sweep.seeds.root,
        "budgets": [{"label": str(budget), "tokens": budget.tokens, "of": budget.of} for budget in sweep.budgets],
        "models": {model.name: model.identity() for model in sweep.models},
        "calibration": _calibrations(study),
        "grader": {"missing": _MISSING},
        "code": {
            "id": code_id(),
            "engine_version": ENGINE_VERSION,
            "identity_version": IDENTITY_VERSION,
            "packages": environment(),
            "kernels": kernels(),
            "third_party": third_party_code(study, data),
        },
        "power": power(study, data, m, override),
        "seen": seen,
    }


def kernels() -> str:
    """Return `on`, `off` where `DESIGNSPACE_KERNELS=0` asks for the plain path, or `not here` where none can be compiled."""
    if switched_off():
        return "off"
    return "on" if load_library("decode_attention") is not None else "not here"


def _calibrations(study: Study) -> dict[str, dict[str, str | None]]:
    needed = sorted({name for mechanism in study.sweep.mechanisms for name in calibrations_needed(mechanism)})
    return {model.name: {name: artefact_hash(model, name) for name in needed} for model in study.sweep.models}
