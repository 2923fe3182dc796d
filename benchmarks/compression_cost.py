"""What compression costs: time in events next to all other time, and α's selector next to top-k.

    python -m benchmarks.compression_cost [--models pocket 0.1b] [--rows R] [--tokens N] [--processes P] [--runs 5]

The first table divides the seconds inside the events of a run by the seconds of everything else in the same run: the same
steps, over the same slots, with the events' work left out. The second divides the whole run times of `alpha` (diversity
selector) by those of `triattention` (top-k), which take turns. Both are cut to the budget every `interval` steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.engine_fleet import EngineFleet, Run
from benchmarks.measured import Runs, percents, table
from benchmarks.settings import Load, in_words, load_of, parser, preamble, progress
from benchmarks.subject import subject

DEFAULTS = {"pocket": Load(256, 512), "0.1b": Load(8, 272)}
REFERENCE, DIVERSE = "triattention", "alpha"


def rounds(fleet: EngineFleet, runs: int) -> dict[str, list[Run]]:
    """Run both arms in turns."""
    for arm in (REFERENCE, DIVERSE):
        fleet.make_engine(arm)
    found: dict[str, list[Run]] = {REFERENCE: [], DIVERSE: []}
    for _ in range(runs):
        for arm, done in found.items():
            done.append(fleet.run(arm))
    return found


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure and yield the lines of the section."""
    shares, ratios = [], []
    for name in arguments.models:
        with EngineFleet(subject(name), load_of(arguments, DEFAULTS, name), arguments) as fleet:
            found = rounds(fleet, arguments.runs)
        for arm, done in found.items():
            share = Runs(tuple(run.event_share for run in done))
            rate = Runs(tuple(run.tokens_per_s for run in done))
            shares.append([f"{name}, `{arm}`", rate, done[0].n_events, f"**{percents(share)}**"])
            progress([str(cell) for cell in shares[-1]])
        seconds = {arm: Runs(tuple(run.wall_s for run in done)) for arm, done in found.items()}
        ratios.append([name, *seconds.values(), f"**{seconds[DIVERSE].over(seconds[REFERENCE])}**"])
    yield f"{in_words(arguments, DEFAULTS)}\n"
    yield from table(("model, mechanism", "tokens per second", "events", "time in events / all other time"), shares)
    yield ""
    yield from table(("model", f"`{REFERENCE}`, s per run", f"`{DIVERSE}`, s per run", "α / top-k"), ratios)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args(argv)
    print(preamble(arguments, "Cost of compression"))
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
