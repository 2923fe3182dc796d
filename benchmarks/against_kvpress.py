"""Decode throughput next to kvpress: same model files, prompts, new tokens, budget, interval and score; runs alternate.

    python -m benchmarks.against_kvpress [--models pocket pocket-bf16 0.1b FOLDER] [--rows R] [--processes P] [--tokens N]
        [--runs 5] [--sides one-thread all-threads processes] [--with-generate] [--their-tokens N]

Ours: P processes of one thread with R rows each, the way a sweep uses the machine. kvpress: batch 1 by its own pipeline, one
process with one thread, one with a thread per core, and P processes of one thread at once; `--sides` leaves some out. With
`--with-generate`, transformers' `generate` runs in each round too, in our processes at our batch. Every round times each once;
a ratio is the median of the rounds' ratios. Both cut each head to the budget every `interval` steps. Only new tokens count;
prompts are included in the time, start and compilation are not (`set-up`). `--their-tokens` lets kvpress write shorter texts
than ours, where a rate is known from fewer.

A folder is a real model, in the type of its weights. Its runs are warmed up with a few tokens, not with an event.

KVPRESS_PYTHON names another environment than the one that `make bench-peer` makes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from benchmarks.engine_fleet import WARM_UP, EngineFleet, Run
from benchmarks.json_lines import ROOT, Fleet
from benchmarks.measured import Runs, faster, figure, n_cores, table
from benchmarks.own_step import OwnSide, lines
from benchmarks.settings import Load, in_words, load_of, parser, preamble, progress, title_of
from benchmarks.subject import Subject, context_and_question, subject

PRESSES = ("knorm", "snapkv")
DEFAULTS = {"pocket": Load(256, 1024), "0.1b": Load(32, 272)}
THEIRS = "benchmarks.kvpress_side"
ENVIRONMENT = Path("benchmarks") / ".venv-kvpress"
ALONE = ("one-thread", "all-threads")
SIDES = (*ALONE, "processes")
GENERATE = "generate"
MOST_AGREED = 32  # tokens that a real model's first text is compared over


@dataclass(frozen=True)
class Rates:
    """Our runs, the other sides' tokens per second by round, what the first run cost us, and whether both wrote the same."""

    runs: list[Run]
    others: Mapping[str, Runs]
    setup_s: float
    agreed: int
    compared: int

    def cells(self) -> list[str]:
        """Return the numbers of a table row."""
        ours = Runs(tuple(run.tokens_per_s for run in self.runs))
        alone = [self.others[side] for side in ALONE if side in self.others]
        found = [str(ours), *map(str, alone)]
        if alone:
            found.append(f"**{ours.over(faster(alone[0], alone[-1]))}**")
        for side in ("processes", GENERATE):
            if side in self.others:
                found += [str(self.others[side]), f"**{ours.over(self.others[side])}**"]
        return [*found, figure(self.setup_s), f"{self.agreed} of {self.compared}"]


def header(sides: list[str], processes: int) -> list[str]:
    """Return the heads of the columns of `Rates.cells`."""
    named = {"one-thread": "1 thread", "all-threads": f"{n_cores()} threads"}
    found = ["model, score", "ours", *(f"kvpress, {named[side]}" for side in ALONE if side in sides)]
    if {*ALONE} & {*sides}:
        found.append("ratio to the better")
    if "processes" in sides:
        found += [f"kvpress, {processes} processes", "ratio"]
    if GENERATE in sides:
        found += ["`generate`, full cache", "ratio"]
    return [*found, "set-up of ours, s", "same tokens before an event"]


class Match:
    """Both sides with one model loaded."""

    def __init__(self, model: Subject, ours: EngineFleet, theirs: Fleet, arguments: argparse.Namespace) -> None:
        self.model, self.ours, self.theirs, self.arguments, self.load = model, ours, theirs, arguments, ours.load
        self.tokens = arguments.their_tokens or ours.load.tokens
        self.sides = [*arguments.sides, *([GENERATE] if arguments.with_generate else [])]
        self.their_bytes = {"process_bytes": 0, "grown_bytes": 0}  # the most of one process

    def rates(self, press: str) -> Rates:
        """Measure one press."""
        warm_up = WARM_UP if self.model.real else self.arguments.interval + 4
        # `generate` first: its copy of the weights is no part of what our engine adds.
        for side in reversed(self.sides):
            self._rate(side, press, warm_up=warm_up)
        setup_s = self.ours.make_engine(press)
        rounds = [self._round(press) for _ in range(self.arguments.runs)]
        others = {side: Runs(tuple(rates[side] for _, rates in rounds)) for side in self.sides}
        return Rates([run for run, _ in rounds], others, setup_s, *self._agreement(press))

    def _round(self, press: str) -> tuple[Run, dict[str, float]]:
        ours = self.ours.run(press)
        return ours, {side: self._rate(side, press) for side in self.sides}

    def _rate(self, side: str, press: str, *, warm_up: int | None = None) -> float:
        """Return the tokens per second of one of the other sides; `warm_up`: of so few tokens."""
        if side == GENERATE:
            return self.ours.generate(warm_up)
        tokens = warm_up or self.tokens
        if side == "processes":
            return self._together(press, tokens)
        return self._alone(press, 1 if side == "one-thread" else n_cores(), tokens)

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
        self._note(answer)
        return float(answer["tokens"] / answer["wall_s"])

    def _together(self, press: str, tokens: int) -> float:
        texts = [self._text(press, 1, process) for process in range(self.arguments.processes)]
        wall_s, answers = self.theirs.timed("run", per_worker=texts, tokens=tokens)
        for answer in answers:
            self._note(answer)
        return float(sum(answer["tokens"] for answer in answers) / wall_s)

    def _note(self, answer: Mapping[str, int]) -> None:
        self.their_bytes = {name: max(most, answer[name]) for name, most in self.their_bytes.items()}

    def _agreement(self, press: str) -> tuple[int, int]:
        """Return how many first words of the first text both sides have in common, of those written before an event."""
        before = self.arguments.interval - 1
        if self.model.real:
            before = min(before, self.load.tokens, MOST_AGREED)
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
    python, rows, own, theirs_held, peer = kvpress_python(), [], [], [], ""
    for name in arguments.models:
        model, load = subject(name), load_of(arguments, DEFAULTS, name)
        with EngineFleet(model, load, arguments) as ours, Fleet(THEIRS, arguments.processes, python=python) as theirs:
            answers = theirs.ask("load", device=arguments.device, **model.file_request)
            match = Match(model, ours, theirs, arguments)
            for press in arguments.presses:
                found, title = match.rates(press), f"{title_of(name)}, {press}"
                rows.append([title, *found.cells()])
                progress(rows[-1])
                own.append(OwnSide(title, load.rows, found.runs, ours.floor(press), ours.generate_grown_bytes))
            most, grown = (figure(n_bytes / 2**20) for n_bytes in match.their_bytes.values())
            theirs_held.append(f"{title_of(name)} {most} MiB, grown by {grown} MiB")
            peer = ", ".join(f"{package} {number}" for package, number in answers[0]["versions"].items())
    shorter = f" kvpress writes {arguments.their_tokens} tokens." if arguments.their_tokens else ""
    yield f"Tokens per second. Ours: {in_words(arguments, DEFAULTS)}{shorter} The other side: {peer}.\n"
    yield from table(header(match.sides, arguments.processes), rows)
    yield from lines(own)
    yield f"\nMost main memory of one process of kvpress, which has one text: {'; '.join(theirs_held)}.\n"


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--presses", nargs="+", choices=PRESSES, default=list(PRESSES))
    options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="of kvpress")
    options.add_argument("--with-generate", action="store_true", help="time transformers' generate in each round too")
    options.add_argument("--their-tokens", type=int, help="new tokens of kvpress' texts; default: as many as ours")
    arguments = options.parse_args(argv)
    print(preamble(arguments, "Throughput next to kvpress"))
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
