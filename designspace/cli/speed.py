"""`designspace bench`: measure one catalogue mechanism on one model and say it in a few lines."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

from designspace.axes import Budget, Mechanism
from designspace.engine import Engine
from designspace.engine.decode_step import StepKind
from designspace.engine.speed import PARTS, Speed, measure
from designspace.errors import DeclarationError, UnknownName
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import catalog, strategy
from designspace.report.arm_rows import NO_BUDGET
from designspace.report.cost import Cost
from designspace.version import __version__

_PROMPT_TOKENS = 32


def bench_arm(
    spec: ModelSpec,
    made: Mechanism,
    budget: int,
    *,
    rows: int,
    n_new_tokens: int,
    step: StepKind = "plain",
    threads: int | None = None,
    n_runs: int = 5,
) -> Speed:
    """Measure decoding of a mechanism, greedy where it does not say; texts end at `n_new_tokens`, whatever the model says.

    Raises:
        DesignspaceError: missing model or calibration, a budget that the cadence cannot hold.
    """
    if made.decoding is None:
        made = made.override(made.name, decoding=strategy("decoding", "greedy")())
    if made.decoding is not None and made.decoding.samples > 1:
        raise DeclarationError(f"mechanism {made.name!r} makes several samples of each text: time one of them")
    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = replace(load_model(spec, device), eos_ids=frozenset())
    artefacts = {name: load_artefact(spec, name) for name in made.needs().calibrations}

    def build() -> Engine:
        return Engine(
            loaded,
            made,
            Budget(budget) if made.budget_applies else None,
            rows=rows,
            max_new_tokens=n_new_tokens,
            max_prompt_tokens=_PROMPT_TOKENS,
            artefacts=artefacts,
            step=step,
        )

    return measure(build, n_runs=n_runs, prompt_tokens=_PROMPT_TOKENS)


def arm_named(name: str, sweep: Path | None) -> Mechanism:
    """Return an arm of a sweep file, or a mechanism of the catalogue.

    Raises:
        UnknownName: neither has that name.
        DeclarationError: the sweep file holds mistakes.
    """
    arms = {}
    if sweep is not None:
        from sweeps.spec import load_sweep

        arms = {arm.name: arm for arm in load_sweep(sweep).mechanisms}
    if name in arms:
        return arms[name]
    if name not in catalog():
        raise UnknownName("mechanism" if sweep is None else f"mechanism or arm of {sweep}", name, {*arms, *catalog()})
    return catalog()[name]


def cost_of(speed: Speed, model: str, arm: Mechanism, budget: int, *, step: StepKind, load: float) -> Cost:
    """Return a measurement as it is kept. load: cores that other work kept busy meanwhile."""
    return Cost(
        model=model,
        mechanism=arm.name,
        budget=str(budget) if arm.budget_applies else NO_BUDGET,
        rows=speed.rows,
        n_new_tokens=speed.n_new_tokens,
        step=step,
        threads=torch.get_num_threads(),
        machine=_machine(),
        torch=torch.__version__,
        version=__version__,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        load=load,
        tokens_per_s=speed.tokens_per_s,
        runs_tokens_per_s=speed.runs_tokens_per_s,
        step_s=speed.step_s,
        floor_share=speed.floor_share,
    )


def speed_text(speed: Speed) -> str:
    """Return the figures as lines of text."""
    shares = ", ".join(f"{part} {100 * speed.time_shares[part]:.0f} %" for part in PARTS)
    return "\n".join(
        [
            f"{_machine()}, torch {torch.__version__}, {_threads(torch.get_num_threads())}",
            f"{speed.tokens_per_s:,.0f} tokens/s: {speed.rows} rows, {speed.capacity} slots, {speed.n_new_tokens} tokens each",
            f"decode step {1e3 * speed.step_s:.2f} ms; its physical floor is {1e3 * speed.floor_s:.2f} ms, "
            f"{100 * speed.floor_share:.0f} % of it",
            f"where the time goes: {shares}",
            f"not counted: {speed.setup_s:.1f} s to build, compile and warm up",
        ]
    )


class OtherWork:
    """What else a machine does while something is measured: from the making of this until it is asked."""

    def __init__(self) -> None:
        self._began_s, self._busy_s, self._own_s = time.perf_counter(), _busy_s(), _own_s()

    def load(self) -> float:
        """Return how many cores other processes kept busy meanwhile, on average."""
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / (time.perf_counter() - self._began_s))


def _busy_s() -> float:
    """Return the seconds in which cores of this machine ran programs or the system."""
    spent = psutil.cpu_times()
    return float(spent.user + spent.system + getattr(spent, "nice", 0.0))  # a niced process counts apart on Linux


def _own_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return f"{named or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"
