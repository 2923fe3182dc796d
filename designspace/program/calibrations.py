"""The calibrations that a mechanism reads: those of the model's files, those measured before, or measured now."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from designspace.axes import Artefact, Mechanism
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus, artefact_path, load_artefact, model_key, save_artefact
from designspace.models.calibration_text import Settings, corpus_of, corpus_of_texts
from designspace.models.loading import LoadedModel
from designspace.registry import calibration

CalibrateOn = str | Path | Sequence[str]


class CalibrationMade(UserWarning):
    """A calibration was not there and has been measured; says on what, and where it is kept."""


def artefacts_of(loaded: LoadedModel, mechanism: Mechanism, calibrate_on: CalibrateOn | None) -> dict[str, Artefact]:
    """Return the calibrations that a mechanism reads, by name.

    They are looked for among those measured on this model before, then beside its files. What is missing is measured on
    `calibrate_on`, a text file or texts; a warning says so, and it is kept for the next time.

    Raises:
        CalibrationError: one is missing and there is nothing to measure it on, or it cannot be measured.
    """
    return {name: _artefact(loaded, name, mechanism, calibrate_on) for name in mechanism.needs().calibrations}


def _artefact(loaded: LoadedModel, name: str, mechanism: Mechanism, calibrate_on: CalibrateOn | None) -> Artefact:
    if name in loaded.measured:
        return loaded.measured[name]
    spec = loaded.spec
    if spec is not None and (calibrate_on is None or artefact_path(spec, name).is_file()):
        try:
            return load_artefact(spec, name)
        except CalibrationError as error:
            if calibrate_on is None:
                raise CalibrationError(f"mechanism {mechanism.name!r}: {error}; or pass calibrate_on=FILE") from error
            raise
    if calibrate_on is None:
        raise CalibrationError(
            f"mechanism {mechanism.name!r} needs calibration {name!r}, which a model in memory comes without: pass "
            "calibrate_on=FILE, a text like those that the model will write"
        )
    return _measured(loaded, name, calibrate_on)


def _measured(loaded: LoadedModel, name: str, calibrate_on: CalibrateOn) -> Artefact:
    corpus, spec = _corpus(loaded, calibrate_on), loaded.spec
    with torch.inference_mode():
        tensors = calibration(name)(loaded, corpus)
    # As the engine's own tensors, these may be read inside and outside of inference mode.
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    made = Artefact(
        name, tensors, "in memory" if spec is None else model_key(spec), corpus.n_tokens, corpus.source,
        text=corpus.digest(), dtype=str(loaded.dtype).removeprefix("torch."),
    )  # fmt: skip
    loaded.measured[name] = made
    kept = "with the model in memory"
    if spec is not None:
        save_artefact(artefact_path(spec, name), made)
        kept = f"at {artefact_path(spec, name)}"
    warnings.warn(
        f"calibration {name!r} was measured on {corpus.n_tokens:,} tokens of {corpus.source}, and is kept {kept}",
        CalibrationMade,
        stacklevel=5,
    )
    return made


def _corpus(loaded: LoadedModel, calibrate_on: CalibrateOn) -> Corpus:
    if loaded.tokenizer is None:
        raise CalibrationError("texts to calibrate on need the model's tokenizer: pass tokenizer=…")
    if isinstance(calibrate_on, str | Path):
        return corpus_of(loaded, Settings(Path(calibrate_on)))
    return corpus_of_texts(loaded, calibrate_on)
