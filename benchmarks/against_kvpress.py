"""Decode throughput next to kvpress: same model files, prompts, new tokens, budget, interval and score; runs alternate.

    python -m benchmarks.against_kvpress [--models pocket pocket-bf16 0.1b] [--rows R] [--processes P] [--tokens N] [--runs 5]

Ours: P processes of one thread with R rows each, the way a sweep uses the machine. kvpress: batch 1 by its own pipeline, one
process with one thread, one with a thread per core, and P processes of one thread at once. Every round times each of them
once; a ratio is the median of the rounds' ratios. Both cut each head to the budget every `interval` steps. Only new tokens
count; prompts are included in the time, start and compilation are not (`set-up`).

KVPRESS_PYTHON names another environment than the one that `make bench-peer` makes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from benchmarks.engine_fleet import EngineFleet
from benchmarks.json_lines import ROOT, Fleet
from benchmarks.measured import Runs, faster, figure, n_cores, table
from benchmarks.settings import Load, in_words, load_of, parser, preamble, progress
from benchmarks.subject import context_and_question, subject

PRESSES = ("knorm", "snapkv")
DEFAULTS = {"pocket": Load(256, 1024), "0.1b": Load(32, 272)}
THEIRS = "benchmarks.kvpress_side"
ENVIRONMENT = Path("benchmarks") / ".venv-kvpress"


@dataclass(frozen=True)
class Rates:
    """Tokens per second of each side by round, what the first run cost us, and whether both wrote the same."""

    ours: Runs
    one_thread: Runs
    all_threads: Runs
    all_processes: Runs
    setup_s: float
    agreed: int
    compared: int

    def cells(self) -> list[str]:
        """Return the numbers of a table row."""
        best = faster(self.one_thread, self.all_threads)
        return [
            str(self.ours),
            str(self.one_thread),
            str(self.all_threads),
            f"**{self.ours.over(best)}**",
            str(self.all_processes),
            f"**{self.ours.over(self.all_processes)}**",
            figure(self.setup_s),
            f"{self.agreed} of {self.compared}",
        ]


class Match:
    """Both sides with one model loaded."""

    def __init__(self, ours: EngineFleet, theirs: Fleet, arguments: argparse.Namespace) -> None:
        self.ours, self.theirs, self.arguments, self.load = ours, theirs, arguments, ours.load

    def rates(self, press: str) -> Rates:
        """Measure one press."""
        setup_s = self.ours.make_engine(press)
        for threads in {1, n_cores()}:
            self._alone(press, threads, self.arguments.interval + 4)
        self._together(press, self.arguments.interval + 4)
        rounds = [self._round(press) for _ in range(self.arguments.runs)]
        ours, one_thread, all_threads, all_processes = map(Runs, zip(*rounds, strict=True))
        return Rates(ours, one_thread, all_threads, all_processes, setup_s, *self._agreement(press))

    def _round(self, press: str) -> tuple[float, float, float, float]:
        n = self.load.tokens
        ours = self.ours.run(press).tokens_per_s
        return ours, self._alone(press, 1, n), self._alone(press, n_cores(), n), self._together(press, n)

    def _text(self, press: str, threads: int, process: int) -> dict[str, object]:
        context, question = context_and_question(self.ours.batches[process][0])
        return {
            "context": context,
            "question": question,
            "press": press,
            "interval": self.arguments.interval,
            "target": self.arguments.budget,
            "threads": threads,
        }

    def _alone(self, press: str, threads: int, tokens: int) -> float:
        answer = self.theirs.workers[0].ask("run", **self._text(press, threads, 0), tokens=tokens)
        return float(answer["tokens"] / answer["wall_s"])

    def _together(self, press: str, tokens: int) -> float:
        texts = [self._text(press, 1, process) for process in range(self.arguments.processes)]
        wall_s, answers = self.theirs.timed("run", per_worker=texts, tokens=tokens)
        return float(sum(answer["tokens"] for answer in answers) / wall_s)

    def _agreement(self, press: str) -> tuple[int, int]:
        """Return how many first tokens of the first text both sides have in common, of those written before an event."""
        before = self.arguments.interval - 1
        ours = self.ours.workers[0].ask("run", arm=press, prompts=self.ours.batches[0], tokens=before)["text"].split()
        theirs = self.theirs.workers[0].ask("run", **self._text(press, 1, 0), tokens=before)["text"].split()
        return common_start(ours, theirs), max(len(ours), len(theirs))


def common_start(one: list[str], other: list[str]) -> int:
    """Return how many first words two texts share."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def kvpress_python() -> str:
    """Return the interpreter of kvpress' environment.

    Raises:
        SystemExit: there is none; says how to make it.
    """
    python = os.environ.get("KVPRESS_PYTHON") or str(ROOT / ENVIRONMENT / "bin" / "python")
    if not Path(python).exists():
        raise SystemExit(f"no interpreter with kvpress at {python}: run `make bench-peer`, or set KVPRESS_PYTHON")
    return python


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure and yield the lines of the section."""
    python, rows, peer = kvpress_python(), [], ""
    for name in arguments.models:
        model, load = subject(name), load_of(arguments, DEFAULTS, name)
        with EngineFleet(model, load, arguments) as ours, Fleet(THEIRS, arguments.processes, python=python) as theirs:
            answers = theirs.ask("load", device=arguments.device, **model.file_request)
            match = Match(ours, theirs, arguments)
            for press in arguments.presses:
                rows.append([f"{name}, {press}", *match.rates(press).cells()])
                progress(rows[-1])
            peer = ", ".join(f"{package} {number}" for package, number in answers[0]["versions"].items())
    yield f"Tokens per second. Ours: {in_words(arguments, DEFAULTS)} The other side: {peer}.\n"
    header = ("model, score", "ours", "kvpress, 1 thread", f"kvpress, {n_cores()} threads", "ratio to the better")
    together = (
        f"kvpress, {arguments.processes} processes",
        "ratio",
        "set-up of ours, s",
        "same tokens before an event",
    )
    yield from table((*header, *together), rows)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--presses", nargs="+", choices=PRESSES, default=list(PRESSES))
    arguments = options.parse_args(argv)
    print(preamble(arguments, "Throughput next to kvpress"))
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
