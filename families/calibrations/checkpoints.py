"""Which artefacts are taken from a checkpoint of trained networks, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from families.calibrations.imported_dms import imported_dms
from families.calibrations.imported_fast_kvzip import imported_fast_kvzip
from families.calibrations.imported_kvzap import imported_kvzap
from families.calibrations.imported_retention_gate import imported_retention_gate


def _by_shape(
    read: Callable[[Path, LoadedModel], dict[str, Tensor]],
) -> Callable[[Path, ModelSpec], dict[str, Tensor]]:
    """Return the reading of a file for which the shapes of a model are enough."""
    return lambda file, spec: read(file, load_skeleton(spec))


# What `designspace calibrate MODEL NAME --weights FILE` reads.
CHECKPOINTS: Mapping[str, Callable[[Path, ModelSpec], dict[str, Tensor]]] = {
    "dms-gate": lambda file, spec: imported_dms(file, load_model(spec)),
    "fast-kvzip": _by_shape(
        lambda file, model: imported_fast_kvzip(file, model.geometry, model.model.config.hidden_size)
    ),
    "kvzap": _by_shape(lambda file, model: imported_kvzap(file, model.geometry, model.model.config.hidden_size)),
    "trim-gate": _by_shape(
        lambda file, model: imported_retention_gate(file, model.geometry, model.model.config.hidden_size)
    ),
}
