"""Seconds, memory and size of what looks at results: the page, and the browser, of a folder with made-up rows.

    python -m benchmarks.pages [--rows 1000000] [--mechanisms 50] [--tokens 40] [--folder DIR]

Makes the folder if there is none (a million rows take a quarter of an hour), then measures each in a process of its own:
`report`, the whole command with its page; `index`, what `designspace view` reads before it answers; `filter`, the slowest of
its answers. Seconds are those of the processor and, in brackets, of the clock: on a busy machine only the first mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.made_store import Shape, made_store
from benchmarks.measured import machine, table, versions
from designspace.store import ResultsStore

PARTS = ("report", "index")


def report(store: ResultsStore) -> dict[str, Any]:
    """Write the page, and return its size."""
    from designspace.cli.sweep_commands import print_results
    from designspace.report import declared_study

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        page = Path(folder) / "report.html"
        print_results(store, declared_study(store), page)
        return {"page": f"{page.stat().st_size / 1e6:.1f} MB"}


def index(store: ResultsStore) -> dict[str, Any]:
    """Read the index, ask it as a reader does, and return the seconds of the slowest answer."""
    from designspace.report import declared_study
    from designspace.view import Filter, Index

    found = Index(store, declared_study(store))
    began_s = time.process_time()
    place = found.places()[-1]
    seconds = {"places": time.process_time() - began_s}
    here = {name: place[name] for name in ("model", "task", "split", "budget", "replicate")}
    a, b = place["arms"][0], place["arms"][-1]
    for name, more in (
        ("all problems", {}),
        ("right in one arm, wrong in another", {"a": a, "b": b, "verdict_a": "right", "verdict_b": "wrong"}),
        ("a part of an id, of one kind", {"search": "77", "kind": place["kinds"][0]}),
        ("the last page", {"page": 90}),
    ):
        began_s = time.process_time()
        found.problems(Filter(**here, **more))
        seconds[name] = time.process_time() - began_s
    slowest = max(seconds, key=lambda name: seconds[name])
    return {"rows": f"{found.n_texts:,}", "filter": f"{seconds[slowest]:.2f} s ({slowest})"}


def measured(part: str, folder: Path) -> dict[str, Any]:
    """Return what a part takes in this process."""
    act: Callable[[ResultsStore], dict[str, Any]] = {"report": report, "index": index}[part]
    began_s = time.time()
    found = act(ResultsStore.open(folder, create=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "what": part,
        "seconds": f"{time.process_time():.1f} ({time.time() - began_s:.1f})",
        "peak": f"{peak:.1f} GiB",
        "found": ", ".join(f"{name} {value}" for name, value in found.items()),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="at least so many")
    parser.add_argument("--mechanisms", type=int, default=50, help="arms of each of two budgets, on each of two models")
    parser.add_argument("--tokens", type=int, default=40, help="new tokens of a text")
    parser.add_argument("--folder", type=Path, help="where the results lie, or are made")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.folder)))
        return
    shape = Shape(n_mechanisms=options.mechanisms, n_tokens=options.tokens)
    shape = Shape(
        n_mechanisms=options.mechanisms, n_tokens=options.tokens, n_problems=-(-options.rows // shape.n_cells)
    )
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made) / "results"
        if not folder.exists():
            began_s = time.time()
            made_store(folder, shape)
            print(f"made in {time.time() - began_s:.0f} s", file=sys.stderr)
        own = [sys.executable, "-m", "benchmarks.pages", "--folder", str(folder), "--one"]
        lines = [json.loads(subprocess.run([*own, part], check=True, stdout=subprocess.PIPE).stdout) for part in PARTS]
    print(f"{machine()}; {versions()}\n")
    print("\n".join(table(("what", "seconds", "peak of memory", "found"), [list(line.values()) for line in lines])))


if __name__ == "__main__":
    main()
