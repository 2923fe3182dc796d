"""The strict reader of problems: what it takes, under which names, and what it refuses with `file:line`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from designspace.errors import DeclarationError
from designspace.tasks.grading import ChoiceGrader, CodeGrader, ExactGrader, Grader, IntegerGrader, MathGrader
from designspace.tasks.problem_rows import problems_of_file

LONG = "123456789012345678901234567890"  # more digits than a float or a 64-bit integer has
WHOLE = {"id": "a", "problem": "p", "answer": "1"}


def write(folder: Path, *rows: object, encoding: str = "utf-8") -> str:
    """Write rows, given as JSON text or as data, and return the file's path."""
    file = folder / "data.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return str(file)


def read(path: str, grader: Grader | None = None, **fields: str) -> list[tuple[str, str, str, str]]:
    """Return the problems as plain tuples."""
    problems = problems_of_file(path, grader or MathGrader(), name="mine", fields=fields)
    return [(p.problem_id, p.prompt, p.answer, p.kind) for p in problems]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (WHOLE, ("a", "p", "1", "")),
        ({"question": "q", "answer": "2 + 2 = 4\n#### 1,024"}, ("mine-00001", "q", "1024", "")),
        ({"problem": "p", "solution": r"so \boxed{7}"}, ("mine-00001", "p", r"so \boxed{7}", "")),
        ({"unique_id": "u", "problem": "p", "answer": r"\frac12", "subject": "Algebra"}, ("u", "p", r"\frac12", "Algebra")),
        ({"id": 7, "problem": "p", "answer": 18}, ("7", "p", "18", "")),
        ('{"id": "a", "problem": "p", "answer": 0.10}', ("a", "p", "0.10", "")),
        (f'{{"id": "a", "problem": "p", "answer": {LONG}}}', ("a", "p", LONG, "")),
        ({**WHOLE, "subject": None}, ("a", "p", "1", "")),
        ({**WHOLE, "problem": "a\u2028b"}, ("a", "a\u2028b", "1", "")),
    ],
)  # fmt: skip
def test_columns_of_the_hub_and_of_ones_own(tmp_path: Path, row: object, expected: tuple[str, ...]) -> None:
    """Names in use are known; numbers keep their digits; U+2028 ends no line."""
    assert read(write(tmp_path, row)) == [expected]


def test_fields_name_other_columns(tmp_path: Path) -> None:
    """A declaration says which column is which."""
    path = write(tmp_path, {"nr": "x1", "text": "p", "result": "5", "id": "not this"})

    assert read(path, id="nr", problem="text", answer="result") == [("x1", "p", "5", "")]


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    """Spreadsheets write the one, people the other."""
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode() + b"\n\n \n")

    assert read(str(file)) == [("a", "p", "1", "")]


@pytest.mark.parametrize(
    ("answer", "gold"), [("B", "(B) Oslo"), ("(B)", "(B) Oslo"), (1, "(B) Oslo"), ("Oslo", "(B) Oslo"), ("A", "(A) Rome")]
)  # fmt: skip
def test_choices_make_the_gold_and_the_prompt(tmp_path: Path, answer: object, gold: str) -> None:
    """A letter, an index from 0 or the words name an option; the prompt lists them all."""
    path = write(tmp_path, {"id": "a", "question": "Capital?", "choices": ["Rome", "Oslo"], "answer": answer})

    assert read(path, ChoiceGrader()) == [("a", "Capital?\n\n(A) Rome\n(B) Oslo", gold, "")]


def test_choices_as_the_hub_has_them(tmp_path: Path) -> None:
    """Texts and labels in one mapping, the key beside it."""
    row = {"id": "a", "question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}

    assert read(write(tmp_path, row), ChoiceGrader()) == [("a", "q\n\n(A) x\n(B) y", "(B) y", "")]


def test_programs_need_no_gold(tmp_path: Path) -> None:
    """A task of code has a prompt and an id, and no answer to compare with."""
    assert read(write(tmp_path, {"task_id": "t/1", "prompt": "def f():"}), CodeGrader()) == [
        ("t/1", "def f():", "", "")
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"data.jsonl: a task needs at least one problem, the file has none"),
        (["", "  "], r"a task needs at least one problem"),
        ([WHOLE, "{not json"], r"data.jsonl:2:2: not JSON"),
        ([WHOLE, "[1]"], r"data.jsonl:2:1: each line must be a JSON object, got list"),
        (["7"], r"data.jsonl:1:1: each line must be a JSON object, got number"),
        ([{**WHOLE, "answer": None}], r"data.jsonl:1: answer must be text that is not empty, or a number, got None"),
        ([{**WHOLE, "answer": ""}], r"data.jsonl:1: answer must be text that is not empty"),
        ([{**WHOLE, "answer": True}], r"data.jsonl:1: answer must be text .* got True"),
        ([{**WHOLE, "answer": ["1"]}], r"data.jsonl:1: answer must be text .* got \['1'\]"),
        ([{**WHOLE, "id": False}], r"data.jsonl:1: id must be text"),
        ([{**WHOLE, "problem": "  "}], r"data.jsonl:1: problem must be text that is not empty"),
        ([{"id": "a", "answer": "1"}], r"data.jsonl:1: needs problem or question or prompt"),
        ([{"id": "a", "problem": "p", "anser": "1"}], r"data.jsonl:1: needs answer .*did you mean 'anser'"),
        ([WHOLE, {**WHOLE, "problem": "q"}], r"data.jsonl:2: id 'a' must be unique, line 1 has it too"),
        (['{"id": "a", "id": "b", "problem": "p", "answer": "1"}'], r"data.jsonl:1:1: .*key 'id' stands twice"),
        (['{"id": "a", "problem": "p", "answer": NaN}'], r"data.jsonl:1:1: .*NaN is no JSON number"),
        (['{"id": "a", "problem": "\\ud800", "answer": "1"}'], r"data.jsonl:1: problem holds half of a character"),
        (['{"id": ' + "[" * 100_000 + "]" * 100_000 + "}"], r"data.jsonl:1:1: .*nested too deeply"),
        ([{**WHOLE, "answer": r"\boxed{1"}], r"data.jsonl:1: the gold answer cannot be read as mathematics"),
    ],
)  # fmt: skip
def test_faults_are_named_with_their_line(tmp_path: Path, rows: list[object], message: str) -> None:
    """One clear line each, before anything runs."""
    with pytest.raises(DeclarationError, match=message):
        read(write(tmp_path, *rows))


@pytest.mark.parametrize(
    ("grader", "answer", "message"),
    [
        (IntegerGrader(), "1.5", "must be a whole number, got '1.5'"),
        (ChoiceGrader(), "Rome", "must be the letter of an option"),
        (ExactGrader(), "...", "must not be empty"),
    ],
)
def test_golds_that_the_grader_cannot_read(tmp_path: Path, grader: Grader, answer: str, message: str) -> None:
    """Each grader says what a gold must be, and the reader says where it is not."""
    with pytest.raises(DeclarationError, match=rf"data.jsonl:2: the gold answer {message}"):
        read(write(tmp_path, {**WHOLE, "answer": "5" if not isinstance(grader, ChoiceGrader) else "B"},
                   {**WHOLE, "id": "b", "answer": answer}), grader)  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (["one"], "A", "choices must be a list of 2 to 26 texts"),
        ("ab", "A", "choices must be a list"),
        (["one", ""], "A", "choices must be texts that are not empty"),
        (["one", "two"], "C", "answer must be a letter, an index or the words of one of 2 choices, got 'C'"),
        (["one", "two"], 2, "answer must be a letter, an index or the words of one of 2 choices, got '2'"),
    ],
)
def test_choices_that_do_not_fit(tmp_path: Path, choices: object, answer: object, message: str) -> None:
    """An option that is not there is a fault of the file."""
    with pytest.raises(DeclarationError, match=message):
        read(write(tmp_path, {"problem": "p", "choices": choices, "answer": answer}), ChoiceGrader())


def test_other_encodings_are_named_by_their_byte(tmp_path: Path) -> None:
    """Latin-1 is no UTF-8."""
    with pytest.raises(DeclarationError, match=r"data.jsonl:1:\d+: not UTF-8: byte 0xe9"):
        read(write(tmp_path, {**WHOLE, "problem": "é"}, encoding="latin-1"))


def test_a_file_full_of_faults_names_five(tmp_path: Path) -> None:
    """Enough to see the pattern, and how many more there are."""
    with pytest.raises(DeclarationError) as caught:
        read(write(tmp_path, *[{"id": str(n), "problem": "p"} for n in range(9)]))
    assert len(caught.value.problems) == 6
    assert "4 more lines break a rule" in caught.value.problems[-1]


def test_a_line_that_is_no_problem_is_refused_before_it_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte on one line is a file of another kind."""
    monkeypatch.setattr("designspace.tasks.json_lines.N_LINE_BYTES", 100)
    with pytest.raises(DeclarationError, match=r"data.jsonl:2:1: a line must have at most 100 bytes"):
        read(write(tmp_path, WHOLE, {**WHOLE, "problem": "p" * 200}))
