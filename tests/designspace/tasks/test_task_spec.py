"""Tasks: the paper's split, local files, and clear refusals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from designspace.errors import DeclarationError
from designspace.tasks.hash_split import paper_split
from designspace.tasks.task_spec import TaskSpec
from tests.conftest import SHARED_DATA

MATH500 = SHARED_DATA / "math500.jsonl"
GSM8K = SHARED_DATA / "gsm8k_test.jsonl"
GSM8K_SPLITS = ("test", "dev", "confirm")
SPLIT_SHA256 = {
    "dev": "ef8b26fd453ffb961885d3f29c8e167505246aced55217d2fc7e08ce66cf122a",
    "confirm": "22e0cbb10c49847f0218befebb550f887cbba85631da58419325b8bb55d1ec38",
}


@pytest.mark.skipif(not MATH500.is_file(), reason=f"no data at {MATH500}")
@pytest.mark.parametrize(("split", "n"), [("dev", 201), ("confirm", 299)])
def test_the_papers_split_to_the_id(split: str, n: int) -> None:
    """MD5 of the id modulo 5: 201 and 299 ids, whose sorted list has the published hash."""
    problems = TaskSpec("math500", split, path=str(MATH500)).load()
    ids = sorted(p.problem_id for p in problems)

    assert len(ids) == n
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest() == SPLIT_SHA256[split]
    assert {paper_split(i) for i in ids} == {split}
    assert all("Reason step by step" in p.prompt and p.kind for p in problems)


@pytest.mark.skipif(not MATH500.is_file(), reason=f"no data at {MATH500}")
def test_math500_levels_and_all() -> None:
    """The two splits together are the 500 problems, each once."""
    ids = [p.problem_id for split in ("dev", "confirm") for p in TaskSpec("math500", split, path=str(MATH500)).load()]

    assert Counter(ids) == Counter(p.problem_id for p in TaskSpec("math500", "all", path=str(MATH500)).load())


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"no data at {GSM8K}")
def test_gsm8k_from_a_file() -> None:
    """1,319 test problems; `problems` takes the first n."""
    assert len(TaskSpec("gsm8k", "test", path=str(GSM8K)).load()) == 1319
    assert len(TaskSpec("gsm8k", "test", problems=7, path=str(GSM8K)).load()) == 7


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"no data at {GSM8K}")
def test_gsm8k_has_one_split_whatever_it_is_read_from(tmp_path: Path) -> None:
    """The authors' file has no ids: problems are numbered as they stand, so dev and confirm are the same from every source."""
    authors = tmp_path / "test.jsonl"
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    authors.write_text(
        "".join(
            json.dumps({"question": row["problem"], "answer": f"x\n#### {row['answer_raw']}"}) + "\n" for row in rows
        )
    )
    ids = {split: [p.problem_id for p in TaskSpec("gsm8k", split, path=str(GSM8K)).load()] for split in GSM8K_SPLITS}

    assert Counter(ids["dev"] + ids["confirm"]) == Counter(ids["test"])
    for split in GSM8K_SPLITS:
        assert [p.problem_id for p in TaskSpec("gsm8k", split, path=str(authors)).load()] == ids[split]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{not json"], r"data.jsonl:1:2: not JSON"),
        (
            ['{"unique_id": "a", "problem": "p", "answer": "1"}', "[1]"],
            r"data.jsonl:2:1: each line must be a JSON object, got list",
        ),
        (['{"unique_id": "a", "answer": "1"}'], r"data.jsonl:1: needs problem or question or prompt"),
    ],
)
def test_malformed_files_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    """One clear message with file and line."""
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(lines))

    with pytest.raises(DeclarationError, match=message):
        TaskSpec("math500", "dev", path=str(file)).load()


def test_a_missing_file_and_too_few_problems(tmp_path: Path) -> None:
    """Both say what was asked for and what is there."""
    with pytest.raises(DeclarationError, match="task data not found"):
        TaskSpec("math500", "dev", path=str(tmp_path / "none.jsonl")).load()
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"id": "a", "problem": "p", "answer": "1"}))
    with pytest.raises(DeclarationError, match="has 1 problems, got problems=2"):
        TaskSpec("gsm8k", "test", problems=2, path=str(file)).load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "chain-arithmetik", "problems": 1},
            r"unknown task 'chain-arithmetik' \(did you mean 'chain-arithmetic'\?\)",
        ),
        ({"name": "math500", "split": "test"}, "unknown split of task 'math500' 'test'"),
        ({"name": "chain-arithmetic"}, "say how many"),
        ({"name": "chain-arithmetic", "problems": 4, "path": "x"}, "takes no path"),
        ({"name": "chain-arithmetic", "problems": 0}, "problems must be at least 1, got problems=0"),
        (
            {"name": "chain-arithmetic", "problems": 100_000_000},
            "problems must be at most 100,000, got problems=100000000",
        ),
    ],
)
def test_bad_declarations(arguments: dict[str, object], message: str) -> None:
    """The rule, what was got, the nearest name."""
    with pytest.raises(ValueError, match=message):
        TaskSpec(**arguments)  # type: ignore[arg-type]


def test_generated_tasks_are_deterministic() -> None:
    """Same specification, same content hash; another split, another."""
    one, other = TaskSpec("chain-arithmetic", "dev", problems=5), TaskSpec("chain-arithmetic", "confirm", problems=5)

    assert one.content_hash() == TaskSpec("chain-arithmetic", "dev", problems=5).content_hash() != other.content_hash()
