"""python -m docs.generate.retention [SYSTEM …]: draws what each system of the catalogue keeps of one text.

The text is the first development problem of `trace-recall`, written by trace-llama at a mean budget of 80 tokens. A system that
cuts the prompt alone is drawn at 20 nominal, as in `sweeps/catalogue-prefill.yaml`; settings are those of the shipped sweeps.
A picture has a column for each token and a row for each step, from the prompt's own cut downwards. The darker, the more KV
heads of all layers hold the token; the prompt is blue. What holds everything at every step gets no picture.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.worker import Worker
from designspace.engine.retention import RetentionRecord, RetentionRecorder
from designspace.registry import catalog, mechanism
from designspace.store import ResultsStore
from docs.generate.figures import FIGURES, drawn_budget, entries
from sweeps.expand import expand
from sweeps.shards import shards
from sweeps.spec import parse_sweep
from sweeps.task_data import task_data

_LEVELS = 16  # of grey, and of blue
_BLUE = np.array([30, 70, 180])


def record(name: str, store: Path) -> RetentionRecord:
    """Return what a system's cache held of the text.

    Raises:
        DesignspaceError: the system cannot run on this model or at this budget.
    """
    declaration = {
        "schema": 1,
        "study": "retention",
        "models": ["trace-llama"],
        "tasks": [{"name": "trace-recall", "split": "dev", "problems": 1}],
        "budgets": [drawn_budget(mechanism(name))],
        "mechanisms": [entries().get(name, name)],
        "seeds": {"count": 1, "root": 20260514},
        "generation": {"temperature": 0.0, "max_new_tokens": 320, "rows": 1},
    }
    (cell,) = expand(parse_sweep(json.dumps(declaration)))
    (shard,) = shards(cell, task_data(cell.task).problems or ())
    worker = Worker(store, threads=1)
    try:
        engine, requests = worker.watched_engine(shard)
        engine.hook = recorder = RetentionRecorder(engine.cache)
        list(engine.generate(requests))
    finally:
        worker.close()
    return recorder.records[requests[0].stream]


def shares(record: RetentionRecord) -> NDArray[np.float64]:
    """Return the share of KV heads that hold each token at each step, [steps+1, tokens]; NaN before a token is there."""
    steps = range(len(record.newest) + 1)
    found = np.stack([record.held(step).mean(axis=(0, 1)) for step in steps])
    so_far = np.maximum.accumulate([record.n_prompt_tokens - 1, *record.newest])
    found[np.arange(record.n_positions)[None, :] > so_far[:, None]] = np.nan
    return found


def picture(shares: NDArray[np.float64], n_prompt_tokens: int) -> Image.Image:
    """Return the shares as pixels in a palette of greys, and of blues for the prompt."""
    level = np.ceil(np.nan_to_num(shares) * (_LEVELS - 1)).astype(np.uint8)
    level[:, :n_prompt_tokens] += _LEVELS
    dark = np.linspace(0, 1, _LEVELS)[:, None]
    greys, blues = 255 - dark * 255, 255 - dark * (255 - _BLUE)
    image = Image.fromarray(level, mode="P")
    image.putpalette(np.concatenate([greys.repeat(3, axis=1), blues]).round().astype(np.uint8).tobytes())
    return image


def main(names: Sequence[str]) -> None:
    """Draw the named systems, or all."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        ResultsStore.open(Path(folder))
        for name in names or catalog():
            found = record(name, Path(folder))
            seen, file = shares(found), FIGURES / f"{name}.png"
            if np.nanmin(seen) == 1.0:
                file.unlink(missing_ok=True)
                print(f"{name}: holds everything")
                continue
            picture(seen, found.n_prompt_tokens).save(file, optimize=True)
            print(f"{name}: {len(found.newest)} steps, {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
