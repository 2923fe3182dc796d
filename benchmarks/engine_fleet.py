"""Processes of ours with one model loaded, each with its own prompts, started and warmed up before anything is timed."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from benchmarks.json_lines import Fleet
from benchmarks.settings import Load
from benchmarks.subject import Subject

MODULE = "benchmarks.engine_side"


class Run(NamedTuple):
    """One run of all processes at once. event_share: seconds in events over all others, mean over the processes."""

    tokens_per_s: float
    wall_s: float
    event_share: float
    n_events: int


class EngineFleet(Fleet):
    """Our side. Use as a context manager."""

    def __init__(self, model: Subject, load: Load, arguments: argparse.Namespace) -> None:
        n = arguments.processes
        super().__init__(MODULE, n, threads=arguments.threads)
        self.load, self.arguments = load, arguments
        prompts = model.prompts(n * load.rows)
        self.batches = [prompts[idx * load.rows : (idx + 1) * load.rows] for idx in range(n)]
        self._prompts = [{"prompts": batch} for batch in self.batches]
        self.ask("load", threads=arguments.threads, device=arguments.device, **model.file_request)

    def make_engine(self, arm: str) -> float:
        """Make an engine in every process and write a short text with an event in it; return the seconds of the slowest."""
        answers = self.ask(
            "engine",
            self._prompts,
            arm=arm,
            budget=self.arguments.budget,
            interval=self.arguments.interval,
            rows=self.load.rows,
            tokens=self.load.tokens,
            step=self.arguments.step,
        )
        return float(max(answer["setup_s"] for answer in answers))

    def run(self, arm: str) -> Run:
        """Write all texts once."""
        wall_s, answers = self.timed("run", per_worker=self._prompts, arm=arm, tokens=self.load.tokens)
        shares = [answer["event_s"] / (answer["wall_s"] - answer["event_s"]) for answer in answers]
        return Run(
            _rate(wall_s, answers), wall_s, sum(shares) / len(shares), sum(answer["n_events"] for answer in answers)
        )

    def generate(self, tokens: int | None = None) -> float:
        """Write all texts once with transformers' `generate`; return tokens per second."""
        return _rate(*self.timed("generate", per_worker=self._prompts, tokens=tokens or self.load.tokens))


def _rate(wall_s: float, answers: list[dict[str, Any]]) -> float:
    return float(sum(answer["tokens"] for answer in answers) / wall_s)
