"""What a cell is made from, held against its identity: its problems and its calibration artefacts."""

from __future__ import annotations

from typing import Any

from designspace.axes import Artefact
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import load_artefact
from designspace.tasks.problem import Problem, solutions_hash
from sweeps.expand import Cell
from sweeps.identity import calibrations_needed


def problems_of(cell: Cell) -> list[Problem]:
    """Return the problems of a cell's task.

    Raises:
        DeclarationError: they, or their solutions, are not those of the cell's identity.
    """
    problems = cell.task.load()
    check_same("task", cell.identity["task"]["content"], cell.task.content_hash(), DeclarationError, cell)
    if "solutions" in (fed := cell.identity.get("reference", {})):
        check_same("solutions", fed["solutions"], solutions_hash(problems), DeclarationError, cell)
    return problems


def artefacts_of(cell: Cell) -> dict[str, Artefact]:
    """Return the calibration artefacts that a cell's mechanism reads, by name.

    Raises:
        CalibrationError: one is missing, or not that of the cell's identity.
    """
    artefacts = {name: load_artefact(cell.model, name) for name in calibrations_needed(cell.mechanism)}
    for name, artefact in artefacts.items():
        check_same("calibration", cell.identity["calibration"][name], artefact.sha256, CalibrationError, cell)
    return artefacts


def check_same(what: str, declared: Any, found: Any, error: type[Exception], cell: Cell) -> None:
    """Refuse to store rows under an identity that is not what ran: files may differ between machines, or change.

    Raises:
        error: they differ.
    """
    if declared != found:
        raise error(f"the {what} on this machine is not the one of the cell's identity: {cell.label()}")
