"""Decode throughput next to transformers' `generate` with its full cache, at the same batch, threads and processes.

    python -m benchmarks.against_generate [--models pocket 0.1b FOLDER] [--rows R] [--tokens N] [--processes P] [--runs 5]

Ours holds a bounded cache (by default SnapKV's score, cut to 128 slots per head every 128 steps), `generate` a DynamicCache
that grows with the text. Both run in the same processes and take turns. The end-of-text token is ignored on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.engine_fleet import EngineFleet, Run
from benchmarks.measured import Runs, figure, table
from benchmarks.own_step import OwnSide, lines
from benchmarks.settings import Load, in_words, load_of, parser, preamble, progress, title_of
from benchmarks.subject import subject

DEFAULTS = {"pocket": Load(16, 2048), "0.1b": Load(8, 2048)}


def rates(fleet: EngineFleet, arm: str, runs: int) -> tuple[list[Run], Runs, float]:
    """Return our runs, tokens per second of the other side by round, and our seconds of set-up."""
    fleet.generate(tokens=4)  # first, so that its copy of the weights is no part of what our engine adds
    setup_s = fleet.make_engine(arm)
    ours, theirs = zip(*[(fleet.run(arm), fleet.generate()) for _ in range(runs)], strict=True)
    return list(ours), Runs(theirs), setup_s


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure and yield the lines of the section."""
    rows, own = [], []
    for name in arguments.models:
        with EngineFleet(subject(name), load_of(arguments, DEFAULTS, name), arguments) as fleet:
            runs, theirs, setup_s = rates(fleet, arguments.arm, arguments.runs)
            floor, grown = fleet.floor(arguments.arm), fleet.generate_grown_bytes
        ours = Runs(tuple(run.tokens_per_s for run in runs))
        own.append(OwnSide(title_of(name), fleet.load.rows, runs, floor, grown))
        rows.append([title_of(name), ours, theirs, f"**{ours.over(theirs)}**", figure(setup_s)])
        progress([str(cell) for cell in rows[-1]])
    yield f"Tokens per second; ours: `{arguments.arm}`. {in_words(arguments, DEFAULTS)}\n"
    yield from table(("model", "ours, bounded cache", "`generate`, full cache", "ratio", "set-up of ours, s"), rows)
    yield from lines(own)


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
