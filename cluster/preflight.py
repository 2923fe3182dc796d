"""Checks before any work: everything that would fail every shard is said at once, before the first one starts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from designspace.errors import CalibrationError, DeclarationError, DesignspaceError, ModelError
from designspace.geometry import Geometry
from designspace.models.calibration import load_statistics
from designspace.models.spec import ModelSpec
from designspace.tasks.grading import Grader
from designspace.tasks.problem import Problem
from sweeps.expand import Cell
from sweeps.identity import calibrations_needed

_MAX_GOLDS_NAMED = 3


class PreflightError(DeclarationError):
    """A sweep is well formed but cannot run here: data, weights or calibration are missing or do not fit."""


def check_golds(problems: Iterable[Problem]) -> list[str]:
    """Return what is wrong with gold answers: one that does not equal itself would fail every arm alike."""
    with Grader() as grader:
        verdicts: dict[str, bool] = {}
        for problem in problems:
            if problem.answer not in verdicts:
                verdicts[problem.answer] = grader.check_gold(problem.answer)
        bad = [problem for problem in problems if not verdicts[problem.answer]]
    if not bad:
        return []
    named = ", ".join(f"{problem.problem_id}: {problem.answer!r}" for problem in bad[:_MAX_GOLDS_NAMED])
    return [f"{len(bad)} gold answer{'s'[: len(bad) != 1]} cannot be graded: {named}{', …'[: 3 * (len(bad) > 3)]}"]


def check_models(cells: Collection[Cell]) -> Iterator[str]:
    """Yield why models, or mechanisms on them, cannot run: weights, head dimensions, calibration."""
    for model in dict.fromkeys(cell.model for cell in cells):
        try:
            geometry = geometry_of_config(read_config(model))
        except DesignspaceError as error:
            yield str(error)
            continue
        mechanisms = {cell.mechanism.name: cell.mechanism for cell in cells if cell.model == model}
        for mechanism in mechanisms.values():
            if refusal := mechanism.representation.refusal(geometry):
                yield f"mechanism {mechanism.name!r} on model {model.name!r}: {refusal}"
        if any(calibrations_needed(mechanism) for mechanism in mechanisms.values()):
            try:
                load_statistics(model)
            except CalibrationError as error:
                yield str(error)


def read_config(model: ModelSpec) -> dict[str, Any]:
    """Return a model's `config.json`, from its folder or from the hub; of a hub model nothing else is fetched.

    Raises:
        ModelError: there is none.
    """
    path = _hub_config(model) if model.hub else (model.folder or Path()) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model.name!r}: cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"model {model.name!r}: {path} must hold a JSON object, got {type(config).__name__}")
    return config


def _hub_config(model: ModelSpec) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(model.hub), "config.json", revision=model.revision))
    except (OSError, ValueError) as error:  # every hub error derives from one of the two
        reason = str(error).splitlines()[0]
        raise ModelError(f"model {model.name!r}: cannot get {model.hub} at {model.revision}: {reason}") from error


def geometry_of_config(config: dict[str, Any]) -> Geometry:
    """Return layer and head numbers; rotary frequencies stay empty, since only the weights' own code knows them.

    Raises:
        ModelError: the numbers are not there.
    """
    try:
        n_query_heads = int(config["num_attention_heads"])
        return Geometry(
            n_layers=int(config["num_hidden_layers"]),
            n_query_heads=n_query_heads,
            n_kv_heads=int(config.get("num_key_value_heads") or n_query_heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // n_query_heads),
            inv_freq=torch.empty(0),
        )
    except (KeyError, TypeError) as error:
        kind = config.get("model_type")
        raise ModelError(
            f"model type {kind!r} is not a decoder with a plain configuration: {error} is missing"
        ) from error
