"""Write what models wrote as completions, one JSON object per line, for graders that run programs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from designspace.store.commit import atomic_file
from designspace.tasks.grading import completion_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_LABELS = ("model", "task", "split", "mechanism", "budget", "replicate", "cell_id")
COLUMNS = (*_LABELS, "problem_id", "text")


def export_completions(dataset: ds.Dataset, path: str | Path) -> Path:
    """Write all rows of a results dataset to a JSON Lines file, whole or not at all, and return its path.

    Each line has `task_id` (the problem) and `completion` (the last fenced block of code, else the whole answer), as the
    evaluators of HumanEval and MBPP read them, and the labels of its arm. Nothing is run. Texts that were fed to an arm are
    left out: it did not write them.

    Raises:
        StoreError: writing failed.
    """
    path = Path(path)
    table = dataset.to_table(columns=list(COLUMNS), filter=_written(dataset))
    with atomic_file(path, path.resolve().parent) as stream:
        for line in _lines(table.to_pylist()):
            stream.write(line)
    return path


def _written(dataset: ds.Dataset) -> ds.Expression | None:
    import pyarrow.dataset as ds

    return ds.field("forced_of").is_null() if "forced_of" in dataset.schema.names else None


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    for row in rows:
        labels = {name: row[name] for name in _LABELS}
        entry = {"task_id": row["problem_id"], "completion": completion_of(row["text"]), **labels}
        yield json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n"
