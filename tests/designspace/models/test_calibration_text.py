"""What a model is calibrated on: whose text, how it is cut, and what is refused with numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_text import Settings, corpus_of
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from designspace.models.worked_problems import worked_problems

BOS, UNKNOWN = 1, 0


class Letters:
    """One token per letter, BOS before each text, capitals unknown."""

    unk_token_id = UNKNOWN
    chat_template = None

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> dict[str, list[int]]:
        """Return token ids."""
        ids = [UNKNOWN if letter.isupper() else 10 + ord(letter) % 1000 for letter in text]
        return {"input_ids": [BOS, *ids] if add_special_tokens else ids}

    def get_vocab(self) -> dict[str, int]:
        """Return some words."""
        return {"a": 0}


def model(longest: int | None = None) -> Any:
    """As much of a model as is asked."""
    tokenizer = Letters()
    return SimpleNamespace(
        tokenizer=tokenizer, longest=longest, encode=lambda text: tuple(tokenizer(text)["input_ids"])
    )


def corpus(folder: Path, text: str, name: str = "text.txt", *, longest: int | None = None, **settings: Any) -> Corpus:
    """Read a text."""
    (folder / name).write_text(text, encoding="utf-8")
    return corpus_of(model(longest), Settings(folder / name, **settings))


def test_a_long_text_is_cut_and_every_piece_begins_as_a_text_does(tmp_path: Path) -> None:
    """All letters once and in order, BOS before each piece, no piece longer than the model's positions."""
    text = "".join(chr(97 + n % 26) for n in range(300))
    found = corpus(tmp_path, text, longest=100)

    assert [len(piece) for piece in found.texts] == [100, 100, 100, 4]
    assert {piece[0] for piece in found.texts} == {BOS}
    assert [token for piece in found.texts for token in piece[1:]] == Letters()(text, add_special_tokens=False)[
        "input_ids"
    ]
    assert (found.n_found, found.n_tokens, found.source, found.prompts) == (301, 304, "text.txt", ())
    assert [len(piece) for piece in corpus(tmp_path, text, longest=100, window=50).texts][:2] == [50, 50]
    assert [len(piece) for piece in corpus(tmp_path, text, longest=100, max_tokens=130).texts] == [100, 30]
    assert len(corpus(tmp_path, text).texts) == 1


def test_lines_are_texts_and_problems_are_prompts_too(tmp_path: Path) -> None:
    """As tasks hold them; each line is a text of its own."""
    rows = [{"text": "b" * 130}, {"problem": "cc", "solution": "dd", "id": 3}, {"problem": "ee"}]
    found = corpus(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "rows.jsonl")

    ids = model().encode
    assert found.texts == (ids("b" * 130), ids("cc\ndd"), ids("ee"))
    assert found.prompts == (ids("cc"), ids("ee"))


@pytest.mark.parametrize(
    ("name", "text", "settings", "reason"),
    [
        ("text.txt", " \n", {}, r"text.txt: is empty, calibration needs a text of at least 128 tokens"),
        ("text.txt", "a" * 60, {}, r"text.txt: got 61 tokens, needs at least 128 "),
        ("text.txt", "A" * 200 + "a" * 99, {}, r"text.txt: the model's tokenizer knows 100 of 300 tokens of this text"),
        ("text.txt", "a" * 200, {"longest": 100, "window": 101}, r"may have 100 positions, got a window of 101"),
        ("x.jsonl", '{"text": "a"}\n{"txt": "a", "n": 1}\n', {}, r"x.jsonl:2: must have 'text', or .*, got txt, n"),
        ("x.jsonl", '{"text": "a"}\n{"text"\n', {}, r"x.jsonl:2: no JSON"),
        ("x.jsonl", '{"text": 3}\n', {}, r"x.jsonl:1: 'text' must be a text, got int"),
        ("x.jsonl", '["a"]\n', {}, r"x.jsonl:1: must have 'text', or .*, got list"),
        ("x.jsonl", '{"text": null}\n', {}, r"x.jsonl:1: must have 'text', or .*, got null"),
    ],
)
def test_what_cannot_be_read_is_refused_with_numbers(
    tmp_path: Path, name: str, text: str, settings: dict[str, Any], reason: str
) -> None:
    """What was got, and what is needed."""
    with pytest.raises(CalibrationError, match=reason):
        corpus(tmp_path, text, name, **settings)
    with pytest.raises(CalibrationError, match=r"calibration text not found: .*absent\.txt"):
        corpus_of(model(), Settings(tmp_path / "absent.txt"))


def test_without_a_text_a_model_reads_its_own_language_or_worked_problems() -> None:
    """A bundled model, or a copy of one, the problems that its shipped artefacts are of; any other one English."""
    own = corpus_of(load_skeleton(ModelSpec.bundled("pocket-llama")), Settings(n_problems=3))
    assert (own.source, len(own.texts), len(own.prompts)) == ("chain-arithmetic/calibration[3]", 3, 3)
    english = corpus_of(model(), Settings(n_problems=5))
    assert (english.source, len(english.prompts)) == ("worked-problems-1[120]", 5)
    assert english.digest() == "deda95721e1fd2df7dcbe1a577b85879940432c1c3ad0a61dd24d98b1b55f028"


def test_worked_problems_are_right_and_unlike(tmp_path: Path) -> None:
    """Every equation in them holds, the last number is the answer, and no problem occurs twice."""
    import re

    problems = worked_problems()
    assert len({one.problem for one in problems}) == len(problems) == 120
    n_equations = 0
    for one in problems:
        assert int(re.findall(r"-?\d+", one.solution)[-1]) == one.answer >= 0
        for left, right in re.findall(r"(?<![\d*x] )\b(\d+(?: [-+*/] \d+)+) = (\d+)", one.solution):
            numbers, signs = [int(n) for n in re.findall(r"\d+", left)], re.findall(r" ([-+*/]) ", left)
            n_equations += 1
            assert _value(numbers, signs) == int(right), (left, right)
    assert n_equations > 200


def _value(numbers: list[int], signs: list[str]) -> float:
    """Return a sum of products."""
    total, product = 0.0, float(numbers[0])
    for sign, number in zip(signs, numbers[1:], strict=True):
        if sign in "*/":
            product = product * number if sign == "*" else product / number
        else:
            total, product = total + product, float(number if sign == "+" else -number)
    return total + product
