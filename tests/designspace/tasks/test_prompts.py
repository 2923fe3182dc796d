"""Prompts: named formats, texts of one's own, and what of a declaration is part of a cell."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError, UnknownName
from designspace.tasks import TaskSpec
from designspace.tasks.chat_arguments import ChatArguments
from designspace.tasks.grading import ChoiceGrader, IntegerGrader


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file of two problems with braces in them."""
    path = tmp_path / "mine.jsonl"
    path.write_text('{"problem": "what is \\\\frac{6}{2}?", "answer": 3}\n{"problem": "{problem}", "answer": 4}\n')
    return str(path)


def test_braces_of_a_problem_stay(file: str) -> None:
    """Formulas are full of them, and one problem is the placeholder itself."""
    spec = TaskSpec("mine", "all", path=file, answer=IntegerGrader(), prompt="Q: {problem} {}")

    assert [p.prompt for p in spec.load()] == [r"Q: what is \frac{6}{2}? {}", "Q: {problem} {}"]


def test_a_grader_brings_its_format(file: str) -> None:
    """Whole numbers are asked for in a box."""
    prompts = [p.prompt for p in TaskSpec("mine", "all", path=file, answer=IntegerGrader()).load()]

    assert all(prompt.endswith(r"put your final answer within \boxed{}.") for prompt in prompts)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prompt": "no place"}, DeclarationError, r"prompt must be .* with {problem} in it once, got 'no place'"),
        ({"prompt": "{problem} {problem}"}, DeclarationError, "in it once"),
        ({"prompt": "boxed-sufix"}, DeclarationError, "did you mean 'boxed-suffix'"),
        ({"split": "test"}, UnknownName, r"unknown split of task 'mine' 'test' \(known: all, confirm, dev\)"),
        ({"system": "Be brief.", "chat": "off"}, DeclarationError, "system is part of a chat, got chat=off"),
        ({"fields": (("anser", "x"),)}, UnknownName, "did you mean 'answer'"),
        ({"answer": None}, UnknownName, "unknown task 'mine'"),
    ],
)
def test_bad_declarations(file: str, changes: dict[str, object], error: type[Exception], message: str) -> None:
    """The rule, what was got, the nearest name."""
    declared = {"name": "mine", "split": "all", "path": file, "answer": IntegerGrader(), **changes}
    with pytest.raises(error, match=message):
        TaskSpec(**declared)  # type: ignore[arg-type]


def test_what_changes_a_prompt_changes_the_identity(file: str) -> None:
    """Another system message, chat or prompt is another cell; another grader is not: texts are only graded again."""
    plain = TaskSpec("mine", "all", path=file, answer=IntegerGrader(), prompt="none")
    others = [
        TaskSpec("mine", "all", path=file, answer=IntegerGrader(), prompt="none", system="Be brief."),
        TaskSpec("mine", "all", path=file, answer=IntegerGrader(), prompt="none", chat="off"),
        TaskSpec("mine", "all", path=file, answer=IntegerGrader(), prompt="boxed-suffix"),
    ]

    assert all(other.identity() != plain.identity() for other in others)
    assert set(plain.identity()) == {"name", "split", "template"}
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_own_tasks_split_by_a_hash_of_ids(tmp_path: Path) -> None:
    """Dev and confirm share nothing, and are everything together."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "problem": "p{n}", "answer": "A"}}\n' for n in range(100)))
    specs = {
        split: TaskSpec("mine", split, path=str(path), answer=ChoiceGrader()) for split in ("all", "dev", "confirm")
    }
    ids = {split: {p.problem_id for p in spec.load()} for split, spec in specs.items()}

    assert not ids["dev"] & ids["confirm"]
    assert ids["dev"] | ids["confirm"] == ids["all"]
    assert 20 < len(ids["dev"]) < 60


def test_arguments_of_a_template_are_part_of_the_identity(file: str) -> None:
    """False and 0 render otherwise, and are two declarations; none at all leave older ids as they are."""
    made = [
        TaskSpec("mine", "all", path=file, answer=IntegerGrader(), chat="on", chat_arguments=ChatArguments.of(given))
        for given in ({}, {"think": False}, {"think": 0}, {"think": "no"}, {"think": True})
    ]

    assert {"name", "split", "template", "chat"} == set(made[0].identity())
    assert 5 == len({canonical_json(spec.identity()) for spec in made}) == len(set(made))
    assert {"think": False} == made[1].framing["arguments"] == made[1].identity()["chat_arguments"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"think": 0.5}, "think must be true, false, a whole number or text, got 0.5"),
        ({"think": [1]}, r"think must be .*, got \[1\]"),
        ({"enable-thinking": True}, "no argument 'enable-thinking'"),
    ],
)
def test_bad_arguments_of_a_template(given: dict[str, object], message: str) -> None:
    """What no template can be given."""
    with pytest.raises(DeclarationError, match=message):
        ChatArguments.of(given)
