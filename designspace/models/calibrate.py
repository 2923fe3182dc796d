"""Make a model's calibration artefacts: what is measured in one look at the texts first and together, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from designspace.axes import Artefact
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus, Measure, model_key, read_artefact
from designspace.models.calibration_text import Settings, corpus_of
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.one_look import OnePass, read
from designspace.models.skeleton import load_skeleton

Skipped = Callable[[str, CalibrationError], None]


@dataclass(frozen=True)
class Job:
    """Artefacts of one model from one corpus."""

    spec: ModelSpec
    measures: Mapping[str, Measure]
    corpus: Corpus
    device: str = "cpu"

    @property
    def together(self) -> dict[str, OnePass]:
        """The measures that share one look at the texts."""
        return {name: one for name, one in self.measures.items() if isinstance(one, OnePass)}

    @property
    def apart(self) -> dict[str, Measure]:
        """The others."""
        return {name: one for name, one in self.measures.items() if not isinstance(one, OnePass)}

    def stale(self, file: Path) -> str | None:
        """Return why an artefact in a file is not what this job would make of it, None where it is, or its words for it.

        Raises:
            FileNotFoundError: there is no file.
        """
        try:
            found = read_artefact(file)
        except CalibrationError:
            return "damaged"
        if found.made_for != model_key(self.spec):
            return "of another model"
        is_older = not found.text  # files used not to say what they were measured on beyond its name
        same_name = (found.source, found.n_tokens) == (self.corpus.source, self.corpus.n_tokens)
        if not (same_name if is_older else found.text == self.corpus.digest()):
            return f"measured on other text ({found.source}, {found.n_tokens:,} tokens)"
        if found.dtype not in ("", self.spec.dtype):
            return f"measured in {found.dtype}"
        return None

    def load(self) -> LoadedModel:
        """Return the model on its device.

        Raises:
            ModelError: it cannot be loaded.
        """
        return load_model(self.spec, self.device)

    def made(self, loaded: LoadedModel, skipped: Skipped | None = None) -> Iterator[Artefact]:
        """Yield each artefact when it is done.

        skipped: is told of an artefact that cannot be measured on this model or corpus, and the others follow; None: raise.

        Raises:
            CalibrationError: an artefact cannot be measured on this model or corpus.
        """
        refuse = skipped or _raise
        for name, tensors_of in (*self._read_together(loaded, refuse), *self._one_by_one(loaded)):
            try:
                with torch.inference_mode():
                    tensors = tensors_of()
            except CalibrationError as error:
                refuse(name, error)
                continue
            yield Artefact(
                name, tensors, model_key(self.spec), self.corpus.n_tokens, self.corpus.source,
                text=self.corpus.digest(), dtype=self.spec.dtype,
            )  # fmt: skip

    def _read_together(
        self, loaded: LoadedModel, refuse: Skipped
    ) -> Iterator[tuple[str, Callable[[], dict[str, Tensor]]]]:
        readings = {}
        for name, one in self.together.items():
            try:
                readings[name] = one.begin(loaded)
            except CalibrationError as error:
                refuse(name, error)
        if readings:
            with torch.inference_mode():
                read(loaded, self.corpus.texts, list(readings.values()))
        while readings:
            name = next(iter(readings))
            yield name, readings.pop(name).tensors

    def _one_by_one(self, loaded: LoadedModel) -> Iterator[tuple[str, Callable[[], dict[str, Tensor]]]]:
        for name, measure in self.apart.items():
            yield name, partial(measure, loaded, self.corpus)


def _raise(name: str, error: CalibrationError) -> None:
    raise error


def job_of(spec: ModelSpec, measures: Mapping[str, Measure], settings: Settings, device: str = "cpu") -> Job:
    """Return what is to be made; of the model only its configuration and tokenizer are read.

    Raises:
        CalibrationError: no text, or one that cannot be used.
        ModelError: the model's files are not there, or damaged.
    """
    return Job(spec, measures, corpus_of(load_skeleton(spec), settings), device)


def calibrate(
    spec: ModelSpec,
    measures: Mapping[str, Measure],
    *,
    n_problems: int = 64,
    text_path: str | None = None,
    device: str = "cpu",
    skipped: Skipped | None = None,
) -> Iterator[Artefact]:
    """Yield one artefact for each of `measures` (see `designspace.registry.calibration`).

    They are measured on a text file or what `corpus_of` takes in its place.

    skipped: is told of an artefact that cannot be measured on this model or corpus, and the others follow; None: that raises.

    Raises:
        CalibrationError: a text that cannot be used, or a model that an artefact cannot be measured on.
    """
    settings = Settings(None if text_path is None else Path(text_path), n_problems)
    job = job_of(spec, measures, settings, device)
    yield from job.made(job.load(), skipped)
