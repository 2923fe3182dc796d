"""The rows of a confirmation: exactly those that were registered, or nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.document import grader_id_of
from designspace.protocol.metric import metric_columns
from designspace.protocol.problem_records import hashes_ids
from designspace.protocol.recognition import problem_content
from designspace.report.summary import COLUMNS as SUMMARY_COLUMNS
from designspace.report.summary import NO_BUDGET
from designspace.tasks.problem import Problem, content_hash

COLUMNS = (
    *SUMMARY_COLUMNS,
    "prompt",
    "answer",
    "seed",
    "code_id",
    "engine_version",
    "look_sha256",
    "cache_tokens_per_step",
)
_KEY = ("model", "task", "budget", "mechanism", "problem_id", "replicate")
_PASSING = ("shard_wall_s", "started_at", "worker", "look_sha256")
_NAMED = 5  # faults of one kind that are named


def in_order(table: pa.Table, metric: str) -> pa.Table:
    """Return the rows of a confirmation in one order whatever order they came in: sums of floats depend on it.

    Raises:
        ProtocolError: a column is missing.
    """
    columns = [*COLUMNS, *(name for name in metric_columns(metric) if name not in COLUMNS)]
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ProtocolError(f"the rows of a confirmation must have the columns {', '.join(missing)}")
    keys = [tuple(map(str, row.values())) for row in table.select(_KEY).to_pylist()]
    order = pa.array(sorted(range(len(keys)), key=keys.__getitem__), type=pa.int64())
    return table.select(columns).unify_dictionaries().take(order)


def checked_rows(registration: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table that is `in_order`, with `n_steps` in the place of the cache's course.

    Rows may be missing here: whether a hypothesis has all of its own is judged there. No row may be too many.

    Raises:
        ProtocolError: a row is none of the registered ones: another arm, model, budget, task,
            split, problem, content of a problem, replicate, root seed or grader; one that is there twice; one outside of
            any look at problems that nobody has seen; rows of several configurations under one name.
    """
    steps = pc.fill_null(pc.list_value_length(table["cache_tokens_per_step"]), 0)
    plain = table.select([name for name in table.column_names if name != "cache_tokens_per_step"])
    rows = plain.append_column("n_steps", steps).to_pylist()
    known = _Registered(registration)
    faults = Counter(fault for row in rows for fault in _faults(registration, known, row))
    faults.update(_repeated(rows))
    if faults:
        shown = [f"{fault} ({n} rows)" if n > 1 else fault for fault, n in list(faults.items())[:_NAMED]]
        more = [f"and {len(faults) - _NAMED} faults more"] if len(faults) > _NAMED else []
        raise ProtocolError("\n".join(["the rows are not those registered:", *shown, *more]))
    return rows


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the canonical JSON of sorted rows, less what a second run of the same cells changes."""
    lasting = [{name: value for name, value in row.items() if name not in _PASSING} for row in rows]
    return hashlib.sha256(canonical_json(lasting).encode()).hexdigest()


class _Registered:
    """What a row may say."""

    def __init__(self, registration: Mapping[str, Any]) -> None:
        self.splits = {task["name"]: task["split"] for task in registration["data"]["heldout"]}
        self.graders = {task["name"]: grader_id_of(registration, task) for task in registration["data"]["heldout"]}
        self.contents = {
            task["name"]: {problem["id"]: problem["content"] for problem in task["problems"]}
            for task in registration["data"]["heldout"]
        }
        self.content_of = _content_with_id if hashes_ids(registration) else _content
        self.budgets = {str(b["label"]): (b["tokens"], b["of"]) for b in registration["budgets"]}
        self.budgets[NO_BUDGET] = (None, None)


def _faults(registration: Mapping[str, Any], known: _Registered, row: Mapping[str, Any]) -> Iterator[str]:
    for what, column in (("arms", "mechanism"), ("models", "model")):
        if row[column] not in registration[what]:
            yield f"{column} must be one of {', '.join(registration[what])}, got {row[column]!r}"
    if row["budget"] not in known.budgets:
        yield f"budget must be one of {', '.join(known.budgets)}, got {row['budget']!r}"
    elif (row["budget_tokens"], row["budget_of"]) != known.budgets[row["budget"]]:
        yield f"budget {row['budget']!r} must be {known.budgets[row['budget']]}, got {row['budget_tokens']}, {row['budget_of']}"
    if not (isinstance(row["replicate"], int) and 0 <= row["replicate"] < registration["replicates"]):
        yield f"replicate must be in [0, {registration['replicates']}), got {row['replicate']}"
    if row["seed"] != registration["root_seed"]:
        yield f"seed must be {registration['root_seed']}, got {row['seed']}"
    if row["look_sha256"] is None and not (registration["seen"] or hashes_ids(registration)):
        yield "each generation must be made under a look at the held-out problems, got one outside of any"
    yield from _data_faults(known, row)


def _data_faults(known: _Registered, row: Mapping[str, Any]) -> Iterator[str]:
    task, problem = row["task"], row["problem_id"]
    if task not in known.splits:
        yield f"task must be one of {', '.join(known.splits)}, got {task!r}"
    elif row["split"] != known.splits[task]:
        yield f"split of {task!r} must be {known.splits[task]!r}, got {row['split']!r}"
    elif row["grader_id"] not in (None, known.graders[task]):
        yield f"grader_id of {task!r} must be {known.graders[task]}, got {row['grader_id']}"
    elif problem not in known.contents[task]:
        yield f"problem must be one of the held-out ones, got {problem!r} of {task!r}"
    elif row["answer"] is not None:
        content = known.content_of(Problem(problem, row["prompt"], row["answer"], row["kind"]))
        if content != known.contents[task][problem]:
            yield f"problem {problem!r} of {task!r} must have the registered prompt and answer, got others"


@cache
def _content_with_id(problem: Problem) -> str:
    return content_hash([problem])


_content = cache(problem_content)


def _repeated(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[tuple[Any, ...]] = set()
    cells: dict[tuple[Any, ...], str] = {}
    for row in rows:
        key = tuple(row[name] for name in _KEY)
        if key in seen:
            yield f"each generation must be there once, got {' '.join(map(str, key))} again"
        seen.add(key)
        place = (*key[:4], row["replicate"])
        if cells.setdefault(place, row["cell_id"]) != row["cell_id"]:
            yield f"one name must stand for one configuration, got two cells for {' '.join(map(str, place))}"
