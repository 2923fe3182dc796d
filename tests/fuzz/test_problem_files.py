"""Damaged problem files: one line with its place for every fault, or problems of which none is misread."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from designspace.errors import DesignspaceError
from designspace.tasks.grading import (
    ChoiceGrader,
    CodeGrader,
    ExactGrader,
    Grader,
    IntegerGrader,
    MathGrader,
    RegexGrader,
)
from designspace.tasks.problem import Problem
from designspace.tasks.task_spec import TaskSpec, forget_problems
from sweeps.task_data import task_data
from tests.fuzz.bounds import bounded
from tests.fuzz.damage import damaged, json_damaged

N_EXCERPT, N_ALL = 30, 1_000
NAMES = ("id", "unique_id", "problem", "question", "prompt", "answer", "gold", "solution", "subject", "kind", "choices")
VALUES = (
    *("12", "1,000", r"\frac{1}{2}", r"\boxed{", "so\n#### 4", "####", "B", "(A)", 2, "p1", "p2", r"\sqrt[", "x = 1"),
    {"text": ["a", "b"]},
)
ROWS = [
    {
        "id": f"p{n}",
        "problem": f"add {n} and {n + 1}",
        "answer": str(2 * n + 1),
        "kind": "sum",
        "choices": ["1", str(2 * n + 1)],
    }
    for n in range(1, 6)
]
SOUND = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
GRADERS: tuple[Grader, ...] = (
    IntegerGrader(),
    ExactGrader(),
    ChoiceGrader(),
    MathGrader(),
    RegexGrader(r"(\d+)"),
    CodeGrader(),
)


def _row_damaged(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    lines[place] = json_damaged(random, lines[place], NAMES, VALUES)
    return b"\n".join(lines)


def _declared(random: Random, path: Path) -> TaskSpec:
    if random.random() < 0.2:
        return TaskSpec("gsm8k", "test", path=str(path))
    return TaskSpec("mine", "all", path=str(path), answer=random.choice(GRADERS))


def _faults(spec: TaskSpec, content: bytes, path: Path) -> Iterator[str]:
    """Yield what is wrong with what the reader makes of a damaged file."""
    sound_lines = dict(zip(SOUND.split(b"\n"), _problems(spec, SOUND, path) or (), strict=False))
    try:
        found = _problems(spec, content, path)
    except DesignspaceError as error:
        place = rf"{re.escape(str(path))}(:\d+(:\d+)?)?: \S"
        yield from (
            f"no place: {line!r}"
            for line in str(error).split("\n")
            if not re.match(place, line) or len(line.splitlines()) != 1
        )
        return
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if len(lines) != len(found):
        yield f"{len(lines)} lines made {len(found)} problems"
    yield from (
        f"misread: {problem}"
        for line, problem in zip(lines, found, strict=False)
        if problem != sound_lines.get(line, problem)
    )


def _problems(spec: TaskSpec, content: bytes, path: Path) -> tuple[Problem, ...]:
    path.write_bytes(content)
    forget_problems()
    with bounded():
        found = task_data(spec).problems
    assert found is not None
    return found


def check(seed: int, folder: Path) -> None:
    """Damage one file and read it."""
    random, path = Random(f"problems {seed}"), folder / "data.jsonl"
    content = damaged(random, SOUND, [_row_damaged] * 2)
    faults = list(_faults(_declared(random, path), content, path))
    assert faults == [], f"seed {seed}: {content!r:.2000}"


@pytest.mark.parametrize("first", range(0, N_EXCERPT, 10))
def test_some_damaged_files(first: int, tmp_path: Path) -> None:
    """An excerpt, for every run of the suite."""
    for seed in range(first, first + 10):
        check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(N_EXCERPT, N_ALL, 10))
def test_many_damaged_files(first: int, tmp_path: Path) -> None:
    """The rest."""
    for seed in range(first, first + 10):
        check(seed, tmp_path)
