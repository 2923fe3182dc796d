"""MATH-500 and GSM8K, from the hub or from a local JSONL file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from designspace.errors import DeclarationError
from designspace.tasks.problem import Problem

TEMPLATE = (
    "Solve the following problem. Reason step by step, then give only the final answer inside \\boxed{{}}.\n\n"
    "Problem: {problem}"
)
_DEV_BUCKETS = (0, 1)


def bucket(problem_id: str, modulus: int = 5) -> int:
    """Return the MD5 of an id modulo `modulus`: which part of a split it falls into, for ever and on every machine."""
    return int(hashlib.md5(problem_id.encode(), usedforsecurity=False).hexdigest(), 16) % modulus


def paper_split(unique_id: str) -> str:
    """Return "dev" or "confirm" by the source paper's rule: MD5 of the id modulo 5, buckets 0 and 1 are dev.

    [sun2026minimal] §1.5: 201 and 299 of the 500 problems.
    """
    return "dev" if bucket(unique_id) in _DEV_BUCKETS else "confirm"


def load_math500(split: str, path: str | None) -> list[Problem]:
    """Return MATH-500 ("dev", "confirm" or "all"); `kind` is the subject.

    Raises:
        DeclarationError: the file is missing or malformed, or the hub cannot be reached.
    """
    rows = read_jsonl(path) if path else _hub_rows("HuggingFaceH4/MATH-500", "test.jsonl")
    return [
        Problem(row["unique_id"], TEMPLATE.format(problem=row["problem"]), str(row["answer"]), row.get("subject", ""))
        for row in _checked(rows, ("unique_id", "problem", "answer"), path or "HuggingFaceH4/MATH-500")
        if split in ("all", paper_split(row["unique_id"]))
    ]


def load_gsm8k(split: str, path: str | None) -> list[Problem]:
    """Return the GSM8K test set; a local file has `id, problem, answer`, the hub's `question, answer` (after ####).

    Raises:
        DeclarationError: the file is missing or malformed, or the hub cannot be reached.
    """
    if path:
        rows = _checked(read_jsonl(path), ("id", "problem", "answer"), path)
        return [Problem(row["id"], TEMPLATE.format(problem=row["problem"]), str(row["answer"])) for row in rows]
    return [
        Problem(
            f"gsm8k-{split}-{index}",
            TEMPLATE.format(problem=row["question"]),
            row["answer"].rsplit("####", 1)[-1].strip().replace(",", ""),
        )
        for index, row in enumerate(_hub_rows("openai/gsm8k", f"main/{split}-00000-of-00001.parquet"))
    ]


def read_jsonl(path: str) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file.

    Raises:
        DeclarationError: naming file and line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DeclarationError(f"task data not found: {path}")
    return list(_parsed_lines(file))


def _parsed_lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DeclarationError(f"{file}:{number}:{error.colno}: not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise DeclarationError(f"{file}:{number}:1: each line must be a JSON object, got {type(row).__name__}")
        yield row


def _checked(rows: list[dict[str, Any]], required: tuple[str, ...], source: str) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        missing = [name for name in required if name not in row]
        if missing:
            raise DeclarationError(f"{source}: row {number} lacks {', '.join(missing)} (has {', '.join(sorted(row))})")
    return rows


def _hub_rows(repository: str, filename: str) -> list[dict[str, Any]]:
    try:
        local = _from_hub(repository, filename)
    except Exception as error:  # the hub client has no common base class for "offline", "not found" and "no access"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeclarationError(
            f"cannot load {repository}/{filename} from the hub ({reason}); give a local file with path: FILE.jsonl"
        ) from error
    if filename.endswith(".parquet"):
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(local).to_pylist()
        return rows
    return read_jsonl(local)


def _from_hub(repository: str, filename: str) -> str:
    """Return the path of a hub file: the cached copy if there is one, else a download."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return hf_hub_download(repository, filename, repo_type="dataset", local_files_only=True)
    except LocalEntryNotFoundError:
        # Asked first because it fails at once without a network, where the download itself retries for half a minute.
        HfApi().dataset_info(repository, timeout=10)
        return hf_hub_download(repository, filename, repo_type="dataset")
