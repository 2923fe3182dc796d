"""What a model is calibrated on: a text of the user's, problems of the model's own language, or the text that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.models.pocket_language import language_of
from designspace.models.worked_problems import VERSION, worked_problems

MAX_TOKENS = 32_768  # of all texts, as in TriAttention's released calibration
WINDOW = 2048  # as KVQuant's texts; attention over a text costs its length squared
LEAST_TOKENS = 128
_MOST_UNKNOWN = 0.5  # share of a text's tokens


class Settings(NamedTuple):
    """What a corpus is made of.

    text: a plain text, or JSON lines with `text`, or with `problem` and perhaps `solution`. n_problems: of a generated
    language. max_tokens: of all texts together, BOS included. window: tokens of a piece; None: 2048, or as many as the model
    has positions for.
    """

    text: Path | None = None
    n_problems: int = 64
    max_tokens: int = MAX_TOKENS
    window: int | None = None


class _Texts(NamedTuple):
    """texts and prompts: token ids. source: the name."""

    texts: list[tuple[int, ...]]
    prompts: list[tuple[int, ...]]
    source: str


def corpus_of(loaded: LoadedModel, settings: Settings) -> Corpus:
    """Return what a model, or its skeleton, is calibrated on.

    Without a text a model whose words are those of a generated language gets calibration problems of it, any other one
    word problems with worked solutions in English, which are generated as well.

    Raises:
        CalibrationError: no text, an unreadable one, one that is too short, or one of which the tokenizer knows little; or
            pieces longer than the model's texts may be.
    """
    if settings.text is None:
        language = language_of(loaded.tokenizer.get_vocab())
        if language is not None:
            problems = language.problems("calibration", settings.n_problems)
            return Corpus(
                tuple(loaded.encode(f"{problem.prompt} {problem.solution}") for problem in problems),
                tuple(loaded.encode(problem.prompt) for problem in problems),
                f"{language.name}/calibration[{settings.n_problems}]",
            )
    found = _worked(loaded, settings.n_problems) if settings.text is None else _read(loaded, settings.text)
    return _corpus(loaded, found, settings)


def corpus_of_texts(loaded: LoadedModel, texts: Sequence[str]) -> Corpus:
    """Return a corpus of texts that are at hand, cut as a file's would be.

    Raises:
        CalibrationError: as `corpus_of`.
    """
    return _corpus(loaded, _Texts([_ids(loaded, text) for text in texts], [], f"{len(texts)} texts"), Settings())


def _corpus(loaded: LoadedModel, found: _Texts, settings: Settings) -> Corpus:
    """Check what was found, and cut it into pieces."""
    n_found = sum(map(len, found.texts))
    if n_found < LEAST_TOKENS:
        raise CalibrationError(
            f"{found.source}: got {n_found:,} tokens, needs at least {LEAST_TOKENS:,} (and {MAX_TOKENS:,} are better)"
        )
    _check_known(loaded, found)
    pieces = tuple(_cut(loaded, found.texts, _window(loaded, settings.window), settings.max_tokens))
    return Corpus(pieces, tuple(found.prompts), found.source, n_found)


def _worked(loaded: LoadedModel, n_prompts: int) -> _Texts:
    problems = worked_problems()
    text = "\n\n".join(f"{one.problem}\n{one.solution}" for one in problems)
    prompts = [loaded.encode(one.problem) for one in problems[:n_prompts]]
    return _Texts([_ids(loaded, text)], prompts, f"worked-problems-{VERSION}[{len(problems)}]")


def _read(loaded: LoadedModel, file: Path) -> _Texts:
    text = _content(file)
    if file.suffix not in (".jsonl", ".ndjson"):
        return _Texts([_ids(loaded, text)], [], file.name)
    texts, prompts = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            row = _row(file, number, line)
            if "text" in row:
                texts.append(_ids(loaded, row["text"]))
            else:
                texts.append(_ids(loaded, "\n".join(filter(None, (row["problem"], row.get("solution", ""))))))
                prompts.append(loaded.encode(row["problem"]))
    return _Texts(texts, prompts, file.name)


def _content(file: Path) -> str:
    file = file.expanduser()
    if not file.is_file():
        raise CalibrationError(f"calibration text not found: {file}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{file}: not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}") from None
    except OSError as error:
        raise CalibrationError(f"{file}: cannot be read: {error.strerror}") from error
    if not text.strip():
        raise CalibrationError(f"{file}: is empty, calibration needs a text of at least {LEAST_TOKENS:,} tokens")
    return text


def _row(file: Path, number: int, line: str) -> dict[str, str]:
    """Return a line's columns that are read.

    Raises:
        CalibrationError: starting with `file:line`.
    """
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise CalibrationError(f"{file}:{number}: no JSON: {error}") from None
    if not isinstance(row, dict) or not ({"text", "problem"} & row.keys()):
        got = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise CalibrationError(
            f"{file}:{number}: must have 'text', or 'problem' and 'solution', got {got or 'nothing'}"
        )
    columns = {name: row[name] for name in ("text", "problem", "solution") if row.get(name) is not None}
    for name, value in columns.items():
        if not isinstance(value, str):
            raise CalibrationError(f"{file}:{number}: {name!r} must be a text, got {type(value).__name__}")
    if not ({"text", "problem"} & columns.keys()):
        raise CalibrationError(f"{file}:{number}: must have 'text', or 'problem' and 'solution', got null")
    return columns


def _ids(loaded: LoadedModel, text: str) -> tuple[int, ...]:
    return tuple(loaded.tokenizer(text, verbose=False)["input_ids"])


def _check_known(loaded: LoadedModel, found: _Texts) -> None:
    """Refuse a text in another language than the tokenizer's: statistics of unknown tokens would mean nothing."""
    unknown = loaded.tokenizer.unk_token_id
    n_tokens = sum(map(len, found.texts))
    n_unknown = sum(ids.count(unknown) for ids in found.texts) if unknown is not None else 0
    if n_unknown > _MOST_UNKNOWN * n_tokens:
        raise CalibrationError(
            f"{found.source}: the model's tokenizer knows {n_tokens - n_unknown:,} of {n_tokens:,} tokens of this text: "
            "give one of its own language with --text FILE"
        )


def _window(loaded: LoadedModel, asked: int | None) -> int:
    """Return the length of pieces.

    Raises:
        CalibrationError: longer than the model's texts may be.
    """
    if asked is None:
        return WINDOW if loaded.longest is None else min(WINDOW, loaded.longest)
    if loaded.longest is not None and asked > loaded.longest:
        raise CalibrationError(f"texts of this model may have {loaded.longest:,} positions, got a window of {asked:,}")
    return asked


def _cut(
    loaded: LoadedModel, texts: Sequence[tuple[int, ...]], window: int, max_tokens: int
) -> Iterator[tuple[int, ...]]:
    """Yield pieces of the texts in order, each with the tokens that the tokenizer puts before every text."""
    before, left = _before(loaded), max_tokens
    for ids in texts:
        head = before if ids[: len(before)] == before else ()
        rest, room = ids[len(head) :], window - len(head)
        for start in range(0, len(rest), room):
            piece = (*head, *rest[start : start + room])[:left]
            if len(piece) > len(head):
                left -= len(piece)
                yield piece


def _before(loaded: LoadedModel) -> tuple[int, ...]:
    """Return the tokens that the tokenizer puts before a text, e.g. BOS: without it some models write nonsense."""
    with_them, bare = _ids(loaded, "a"), tuple(loaded.tokenizer("a", add_special_tokens=False)["input_ids"])
    n_before = next((n for n in range(len(with_them)) if with_them[n : n + len(bare)] == bare), 0)
    return with_them[:n_before]
