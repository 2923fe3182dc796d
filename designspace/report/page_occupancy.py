"""How full the cache was, step by step: what the page's figure of occupancy is drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from designspace.report import wording
from designspace.report.arm_rows import named_apart

MOST_POINTS = 240  # of one line; longer texts are averaged over as many runs of steps
_LABELS = ("model", "task", "split", "budget", "mechanism")


def page_occupancy(rows: pa.Table) -> list[dict[str, Any]]:
    """Return one line per arm as plain JSON data: steps, and the mean over the texts that reach them of tokens attended.

    A step's number is the first of the run that a point stands for.

    Args:
        rows: with their labels, `cell_id` and `cache_tokens_per_step` (tokens per layer and KV head); null where a text says
            nothing of it.
    """
    courses: dict[tuple[str, ...], list[np.ndarray]] = {}
    rows = named_apart(rows)
    for line, course in zip(rows.select(_LABELS).to_pylist(), rows["cache_tokens_per_step"], strict=True):
        if course.is_valid and len(course.values):
            key = tuple(str(line[name]) for name in _LABELS)
            courses.setdefault(key, []).append(course.values.to_numpy(zero_copy_only=False))
    return [
        {**dict(zip(_LABELS, key, strict=True)), "mechanism": wording.printable(key[-1]), **mean_course(found)}
        for key, found in courses.items()
    ]


def mean_course(courses: list[np.ndarray]) -> dict[str, list[float]]:
    """Return `steps` and `tokens` of one line; courses: of the texts, [n_steps] each, at least one."""
    longest = max(map(len, courses))
    run = -(-longest // MOST_POINTS)
    totals, counts = np.zeros(-(-longest // run)), np.zeros(-(-longest // run))
    for course in courses:
        at = np.arange(len(course)) // run
        np.add.at(totals, at, course)
        np.add.at(counts, at, 1)
    return {"steps": (1 + run * np.arange(len(totals))).tolist(), "tokens": np.round(totals / counts, 2).tolist()}
