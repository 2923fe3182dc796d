"""The cache that a cell's cadence predicts: its schedule, bound to budget and model, before anything is run."""

from __future__ import annotations

import torch

from designspace.axes import Schedule
from designspace.errors import CalibrationError
from designspace.models.calibration import load_artefact
from sweeps.expand import Cell
from sweeps.identity import calibrations_needed
from sweeps.sources import declared_geometry


def bound_schedule(cell: Cell, longest_prompt: int = 0) -> Schedule:
    """Return the schedule of one of a cell's rows; longest_prompt: in tokens, where it is known.

    Raises:
        DeclarationError: the budget has no room for what is protected.
    """
    mechanism, geometry = cell.mechanism, declared_geometry(cell.model)
    try:
        artefacts = {name: load_artefact(cell.model, name) for name in calibrations_needed(mechanism)}
        owners = None if geometry is None else mechanism.head_routing.owners(geometry, artefacts)
    except CalibrationError:
        owners = None  # noted elsewhere; only a budget in bytes depends on it
    dtype = getattr(torch, cell.model.dtype)
    return mechanism.bind(cell.budget, geometry, dtype, owners, longest_prompt=longest_prompt)


def predicted_sizes(cell: Cell) -> tuple[float | None, int | None]:
    """Return steady mean and peak of a cell's rows; of all samples together where they run side by side."""
    schedule, decoding = bound_schedule(cell), cell.mechanism.decoding
    if cell.budget is None or decoding is None or schedule.steady_mean is None or schedule.steady_peak is None:
        return schedule.steady_mean, schedule.steady_peak
    side_by_side = cell.budget.tokens // decoding.sample_budget(cell.budget).tokens
    return side_by_side * schedule.steady_mean, side_by_side * schedule.steady_peak
