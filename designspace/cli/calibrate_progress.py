"""What a user sees while artefacts are made: a bar on a terminal, sparse plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import typer

from designspace.memory.calibration_cost import Cost
from designspace.models.calibration_stages import Stage, listening

_LINE_INTERVAL_S = 10.0


@contextmanager
def shown(mode: Literal["auto", "plain", "none"], costs: Sequence[Cost]) -> Iterator[None]:
    """Say what each artefact takes, and show how far the stages within are."""
    from rich.console import Console

    for cost in costs:
        typer.echo(cost_line(cost), err=True)
    if mode == "none":
        yield
        return
    console = Console(stderr=True)
    if mode == "auto" and console.is_terminal:
        with _bar(console):
            yield
        return
    with listening(Lines()):
        yield


def cost_line(cost: Cost) -> str:
    """Return in a line what artefacts take."""
    if cost.seconds is None:
        return f"  {cost.names}: it does not say what it takes"
    return f"  {cost.names}: about {_time_text(cost.seconds)}, {cost.n_tokens:,} tokens through the model"


class Lines:
    """Plain lines on stderr: one when a stage begins, one every ten seconds at most, and one when it ends."""

    def __init__(self) -> None:
        self._stage = ""
        self._began_s = self._said_s = 0.0

    def __call__(self, stage: Stage) -> None:
        """Take note of how far a stage is."""
        now = time.monotonic()
        if stage.n_done == 0:
            self._stage, self._began_s, self._said_s = stage.what, now, now
        elif now - self._said_s >= _LINE_INTERVAL_S or stage.n_done >= stage.n_total:
            self._said_s = now
            typer.echo(stage_text(stage, now - self._began_s), err=True)


def stage_text(stage: Stage, elapsed_s: float) -> str:
    """Return how far a stage is, how fast, and when it will be done."""
    rate = stage.n_done / elapsed_s if elapsed_s > 0 else 0.0
    left = (stage.n_total - stage.n_done) / rate if rate else None
    said = "" if left is None else f", {rate:,.0f} {stage.unit}/s, {_time_text(left)} left"
    return f"{stage.what}: {stage.n_done:,} of {stage.n_total:,} {stage.unit}{said}"


@contextmanager
def _bar(console: Any) -> Iterator[None]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with RichProgress(*columns, console=console, transient=True) as bar:
        task, began_s = bar.add_task("", total=None), time.monotonic()

        def listener(stage: Stage) -> None:
            nonlocal began_s
            if stage.n_done == 0:
                began_s = time.monotonic()
                bar.reset(task, total=stage.n_total)
            text = stage_text(stage, time.monotonic() - began_s)
            bar.update(task, completed=stage.n_done, total=stage.n_total, description=text)

        with listening(listener):
            yield


def _time_text(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    if hour:
        return f"{hour} h {minute:02} min"
    return f"{minute} min {second:02} s" if minute else f"{second} s"
