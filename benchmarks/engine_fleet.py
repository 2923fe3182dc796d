"""Processes of ours with one model loaded, each with its own prompts, started and warmed up before anything is timed."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from benchmarks.json_lines import Fleet
from benchmarks.settings import Load
from benchmarks.subject import Subject

MODULE = "benchmarks.engine_side"
WARM_UP = 4  # new tokens of a first run, of a real model


class Run(NamedTuple):
    """One run of all processes at once.

    event_share: seconds in events over all others, mean over the processes. step_s: of one decode step, mean over them. The
    bytes are sums over the processes, see `EngineSide.run`.
    """

    tokens_per_s: float
    wall_s: float
    event_share: float
    n_events: int
    step_s: float
    process_bytes: int
    grown_bytes: int
    allocated_bytes: int
    held_bytes: int


class Floor(NamedTuple):
    """What a decode step must take, means over the processes, which are measured at once.

    products_s: its matrix products by themselves; flop_per_s: at this rate; peak_flop_per_s: of large square ones. floor_s: see
    `designspace.engine.speed.floor_s`.
    """

    products_s: float
    flop_per_s: float
    peak_flop_per_s: float
    floor_s: float


class EngineFleet(Fleet):
    """Our side. Use as a context manager."""

    def __init__(self, model: Subject, load: Load, arguments: argparse.Namespace) -> None:
        n = arguments.processes
        super().__init__(MODULE, n, threads=arguments.threads)
        self.load, self.arguments = load, arguments
        self.warm_up = WARM_UP if model.real else None
        self.generate_grown_bytes: int | None = None
        prompts = model.prompts(n * load.rows)
        self.batches = [prompts[idx * load.rows : (idx + 1) * load.rows] for idx in range(n)]
        self._prompts = [{"prompts": batch} for batch in self.batches]
        self.ask("load", threads=arguments.threads, device=arguments.device, **model.file_request)

    def make_engine(self, arm: str) -> float:
        """Make an engine in every process and write short texts; return the seconds of the slowest.

        They are long enough for an event, but for real models, where that takes as long as a run.
        """
        answers = self.ask(
            "engine",
            self._prompts,
            arm=arm,
            budget=self.arguments.budget,
            interval=self.arguments.interval,
            rows=self.load.rows,
            tokens=self.load.tokens,
            step=self.arguments.step,
            warm_up=self.warm_up,
        )
        return float(max(answer["setup_s"] for answer in answers))

    def run(self, arm: str) -> Run:
        """Write all texts once."""
        wall_s, answers = self.timed("run", per_worker=self._prompts, arm=arm, tokens=self.load.tokens)
        shares = [answer["event_s"] / (answer["wall_s"] - answer["event_s"]) for answer in answers]
        summed = ("n_events", "process_bytes", "grown_bytes", "allocated_bytes", "held_bytes")
        return Run(
            tokens_per_s=_rate(wall_s, answers),
            wall_s=wall_s,
            event_share=sum(shares) / len(shares),
            step_s=sum(answer["step_s"] for answer in answers) / len(answers),
            **{name: sum(answer[name] for answer in answers) for name in summed},
        )

    def floor(self, arm: str) -> Floor:
        """Measure what a decode step of the last run must take, in all processes at once."""
        answers = self.ask("floor", arm=arm)
        return Floor(*(sum(answer[name] for answer in answers) / len(answers) for name in Floor._fields))

    def generate(self, tokens: int | None = None) -> float:
        """Write all texts once with transformers' `generate`; return tokens per second."""
        wall_s, answers = self.timed("generate", per_worker=self._prompts, tokens=tokens or self.load.tokens)
        self.generate_grown_bytes = sum(answer["grown_bytes"] for answer in answers)
        return _rate(wall_s, answers)


def _rate(wall_s: float, answers: list[dict[str, Any]]) -> float:
    return float(sum(answer["tokens"] for answer in answers) / wall_s)
