"""AIME, AMC and GPQA: hub files in their real form, answers, and options in an order that nothing moves."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from designspace.errors import DesignspaceError
from designspace.tasks import TaskSpec
from designspace.tasks.csv_rows import read_csv_rows
from designspace.tasks.task_spec import forget_problems
from tests.conftest import SHARED_DATA

HEADER = ["Record ID", "Question", "Correct Answer", "High-level domain", *(f"Incorrect Answer {k}" for k in (1, 2, 3))]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Path]:
    """The files that the hub is to have; any other is missing."""
    files: dict[tuple[str, str], Path] = {}
    monkeypatch.setattr("designspace.tasks.hub._from_hub", lambda repository, name: str(files[repository, name]))
    forget_problems()
    return files


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the hub stores them."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def gpqa_table(path: Path, n: int, first: int = 0) -> Path:
    """Write questions whose correct answer is the question's number; texts have commas, quotes and line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for i in range(first, first + n):
            wrong = [f'a, "{i + k}"\nof them' for k in (1, 2, 3)]
            writer.writerow([f"rec{i}", f"Which is {i}?\nSay.", f"the {i}", ("Physics", "Chemistry")[i % 2], *wrong])
    return path


@pytest.mark.parametrize(("name", "count"), [("aime24", 30), ("aime25", 30)])
def test_shared_files(name: str, count: int) -> None:
    """All problems, golds from 0 to 999, dev and confirm share none and leave none out."""
    file = SHARED_DATA / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"no data at {file}")
    whole, dev, confirm = (TaskSpec(name, split, path=str(file)).load() for split in ("all", "dev", "confirm"))
    assert len(whole) == count
    assert all(0 <= int(problem.answer) <= 999 for problem in whole)
    assert sorted([*dev, *confirm], key=lambda p: p.problem_id) == sorted(whole, key=lambda p: p.problem_id)
    assert all("\\boxed{}" in problem.prompt for problem in whole)


def test_hub_files(hub: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """Their columns are found by themselves; numbers that are whole are right, however they are stored."""
    row = {"id": 60, "problem": "How?", "solution": "So it is.", "answer": "025", "url": "u", "year": "2024"}
    hub["HuggingFaceH4/aime_2024", "data/train-00000-of-00001.parquet"] = parquet(tmp_path / "a.parquet", [row])
    (tmp_path / "b.jsonl").write_text('{"problem": "Why?", "answer": "70", "id": "0"}\n')
    hub["math-ai/aime25", "test.jsonl"] = tmp_path / "b.jsonl"
    amc = parquet(tmp_path / "c.parquet", [{"id": 0, "question": "Who?", "answer": 27.0, "url": "u"}])
    hub["math-ai/amc23", "test-00000-of-00001.parquet"] = amc
    for name, identifier, text in (("aime24", "60", "25"), ("aime25", "0", "70"), ("amc23", "0", "27")):
        spec = TaskSpec(name, "all")
        (problem,) = spec.load()
        assert problem.problem_id == identifier
        assert spec.grader.grade(f"so \\boxed{{{text}}}", problem.answer).strict_correct
        assert not spec.grader.grade("so \\boxed{26}", problem.answer).strict_correct
    with pytest.raises(DesignspaceError, match=r"give a local file with path: FILE\.jsonl"):
        TaskSpec("gpqa-diamond", "all").load()


def test_gpqa_options(hub: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """Each problem has all its options, its letter names the correct one, and no other problem moves them."""
    hub["Idavidrein/gpqa", "gpqa_diamond.csv"] = gpqa_table(tmp_path / "hub.csv", 80)
    problems = TaskSpec("gpqa-diamond", "all").load()
    letters = Counter(problem.answer[:3] for problem in problems)
    assert set(letters) == {"(A)", "(B)", "(C)", "(D)"}
    assert all(8 <= n <= 35 for n in letters.values())
    for i, problem in enumerate(problems):
        assert problem.problem_id == f"rec{i}"
        assert problem.answer[4:] == f"the {i}"
        assert problem.prompt.startswith(f"Which is {i}?\nSay.")
        assert f"\n{problem.answer}\n" in problem.prompt
        assert all(f'a, "{i + k}"\nof them' in problem.prompt for k in (1, 2, 3))
        assert problem.kind == ("Physics", "Chemistry")[i % 2]
    few = TaskSpec("gpqa-diamond", "all", path=str(gpqa_table(tmp_path / "few.csv", 5, first=40))).load()
    assert few == problems[40:45]


def test_tables_with_commas(tmp_path: Path) -> None:
    """A row's number is the line that it begins on, and every fault is named with its place."""
    file = gpqa_table(tmp_path / "t.csv", 3)
    assert [line.number for line in read_csv_rows(file)] == [2, 7, 12]
    for content, message in (
        ("a,b\n1,2,3\n", r"t.csv:2: a row must have 2 values, as the header, got 3"),
        ("a,a\n1,2\n", r"t.csv:1: column 'a' stands twice"),
        ('a,b\n1,"2\n', r"t.csv:2: not a table with commas"),
    ):
        file.write_text(content)
        with pytest.raises(DesignspaceError, match=message):
            read_csv_rows(file)
    file.write_bytes(b"a,b\n\xe9,2\n")
    with pytest.raises(DesignspaceError, match="not UTF-8: byte 0xe9"):
        read_csv_rows(file)
    file.write_text(",".join(HEADER) + "\nrec0,Which?,,Physics,1,2,3\n")
    forget_problems()
    with pytest.raises(DesignspaceError, match=r"t.csv:2: choices must be texts that are not empty"):
        TaskSpec("gpqa-diamond", "all", path=str(file)).load()
