"""How full the cache was, step by step: what the page's figure of occupancy is drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from designspace.report import wording
from designspace.report.arm_rows import named_apart
from designspace.store.distinct_rows import distinct_rows

MOST_POINTS = 240  # of one line; longer texts are averaged over as many runs of steps
_LABELS = ("model", "task", "split", "budget", "mechanism")


def page_occupancy(rows: pa.Table) -> list[dict[str, Any]]:
    """Return one line per arm as plain JSON data: steps, and the mean over the texts that reach them of tokens attended.

    A step's number is the first of the run that a point stands for.

    Args:
        rows: with their labels, `cell_id` and `cache_tokens_per_step` (tokens per layer and KV head); null where a text says
            nothing of it.
    """
    rows = named_apart(rows.filter(pc.greater(pc.list_value_length(rows["cache_tokens_per_step"]), 0)))
    found, which = distinct_rows(rows, _LABELS)
    lines = []
    for number in sorted(range(len(found)), key=lambda number: _order(found[number])):
        courses = rows["cache_tokens_per_step"].filter(pa.array(which == number))
        labels = dict(zip(_LABELS, map(str, found[number]), strict=True))
        labels["mechanism"] = wording.printable(labels["mechanism"])
        values, lengths = (of.to_numpy() for of in (pc.list_flatten(courses), pc.list_value_length(courses)))
        lines.append({**labels, **mean_course(values, lengths)})
    return lines


def mean_course(values: np.ndarray, lengths: np.ndarray) -> dict[str, list[float]]:
    """Return `steps` and `tokens` of one line.

    values: tokens at every step of one text after the other, [n_steps of all texts]. lengths: steps of each, [n_texts].
    """
    longest = int(lengths.max())
    run = -(-longest // MOST_POINTS)
    begun = np.repeat(np.cumsum(lengths) - lengths, lengths)  # where the text of each value begins
    at = (np.arange(len(values)) - begun) // run
    totals, counts = np.bincount(at, weights=values), np.bincount(at)
    return {"steps": (1 + run * np.arange(len(totals))).tolist(), "tokens": np.round(totals / counts, 2).tolist()}


def _order(labels: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a key that puts a budget of 80 before one of 112."""
    *place, budget, mechanism = labels
    digits = "".join(letter for letter in str(budget).split(" ")[0] if letter.isdigit())
    return (*place, int(digits or 0), budget, mechanism)
