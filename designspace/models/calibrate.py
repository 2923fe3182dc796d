"""Make a model's calibration artefacts: the corpus they are measured on, and the loop over what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from designspace.axes import Artefact
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus, Measure, model_key
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec, bundled_names

MAX_TOKENS = 32768  # of one text, as in TriAttention's released calibration


def calibrate(
    spec: ModelSpec,
    measures: Mapping[str, Measure],
    *,
    n_problems: int = 64,
    text_path: str | None = None,
    device: str = "cpu",
    skipped: Callable[[str, CalibrationError], None] | None = None,
) -> Iterator[Artefact]:
    """Yield one artefact for each of `measures` (see `designspace.registry.calibration`).

    They are measured on a plain text file or, for a bundled model, on calibration problems.

    skipped: is told of an artefact that cannot be measured on this model or corpus, and the others follow; None: that raises.

    Raises:
        CalibrationError: no text for a model that is not bundled, an unreadable one, or a model that an artefact cannot
            be measured on.
    """
    loaded = load_model(spec, device)
    corpus = _text_corpus(loaded, text_path) if text_path is not None else _problem_corpus(loaded, spec, n_problems)
    if corpus.n_tokens == 0:
        raise CalibrationError("calibration needs at least one text")
    for name, measure in measures.items():
        try:
            with torch.inference_mode():
                tensors = measure(loaded, corpus)
        except CalibrationError as error:
            if skipped is None:
                raise
            skipped(name, error)
            continue
        yield Artefact(name, tensors, model_key(spec), corpus.n_tokens, corpus.source)


def _text_corpus(loaded: LoadedModel, text_path: str) -> Corpus:
    file = Path(text_path).expanduser()
    if not file.is_file():
        raise CalibrationError(f"calibration text not found: {text_path}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{file}: not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}") from None
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror}") from error
    ids = tuple(loaded.tokenizer(text)["input_ids"])
    return Corpus((ids[:MAX_TOKENS],), (), file.name)


def _problem_corpus(loaded: LoadedModel, spec: ModelSpec, n_problems: int) -> Corpus:
    if spec.name not in bundled_names():
        raise CalibrationError(f"model {spec.name!r} is not bundled, so it needs a text to calibrate on: --text FILE")
    from designspace.models.pocket_language import language_of

    language = language_of(loaded.tokenizer.get_vocab())
    if language is None:
        raise CalibrationError(f"no language that is generated here has the words of model {spec.name!r}")
    problems = language.problems("calibration", n_problems)
    return Corpus(
        tuple(loaded.encode(f"{problem.prompt} {problem.solution}") for problem in problems),
        tuple(loaded.encode(problem.prompt) for problem in problems),
        f"{language.name}/calibration[{n_problems}]",
    )
