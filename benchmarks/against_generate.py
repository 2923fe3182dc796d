"""Decode throughput next to transformers' `generate` with its full cache, at the same batch, threads and processes.

    python -m benchmarks.against_generate [--models pocket 0.1b] [--rows R] [--tokens N] [--processes P] [--runs 5]

Ours holds a bounded cache (by default SnapKV's score, cut to 128 slots per head every 128 steps), `generate` a DynamicCache
that grows with the text. Both run in the same processes and take turns. The end-of-text token is ignored on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.engine_fleet import EngineFleet
from benchmarks.measured import Runs, figure, table
from benchmarks.settings import Load, in_words, load_of, parser, preamble, progress
from benchmarks.subject import subject

DEFAULTS = {"pocket": Load(16, 2048), "0.1b": Load(8, 2048)}


def rates(fleet: EngineFleet, arm: str, runs: int) -> tuple[Runs, Runs, float]:
    """Return tokens per second of both sides by round, and our seconds of set-up."""
    setup_s = fleet.make_engine(arm)
    fleet.generate(tokens=4)
    rounds = [(fleet.run(arm).tokens_per_s, fleet.generate()) for _ in range(runs)]
    ours, theirs = zip(*rounds, strict=True)
    return Runs(ours), Runs(theirs), setup_s


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure and yield the lines of the section."""
    rows = []
    for name in arguments.models:
        with EngineFleet(subject(name), load_of(arguments, DEFAULTS, name), arguments) as fleet:
            ours, theirs, setup_s = rates(fleet, arguments.arm, arguments.runs)
        rows.append([name, ours, theirs, f"**{ours.over(theirs)}**", figure(setup_s)])
        progress([str(cell) for cell in rows[-1]])
    yield f"Tokens per second; ours: `{arguments.arm}`. {in_words(arguments, DEFAULTS)}\n"
    yield from table(("model", "ours, bounded cache", "`generate`, full cache", "ratio", "set-up of ours, s"), rows)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--arm", default="snapkv")
    arguments = options.parse_args(argv)
    print(preamble(arguments, "Throughput next to transformers' `generate`"))
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
