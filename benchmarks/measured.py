"""Medians, spreads, ratios within a round, and the Markdown that shows them with the machine they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")


@dataclass(frozen=True)
class Runs:
    """What one thing took, round by round. Shown as the median and, in brackets, the least and the most."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    def __str__(self) -> str:
        """Return median and range, to three or more digits."""
        low, high = min(self.values), max(self.values)
        return f"{figure(self.median)} ({figure(low)}–{figure(high)})"

    def over(self, other: Runs) -> Runs:
        """Return the ratios within each round, so that a drift of the machine hits both sides."""
        return Runs(tuple(own / base for own, base in zip(self.values, other.values, strict=True)))


def figure(number: float) -> str:
    """Return a number in three digits, without cutting off whole ones."""
    decimals = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2 if abs(number) >= 1 else 3
    return f"{number:,.{decimals}f}"


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def percents(shares: Runs) -> str:
    """Return the median share and, in brackets, the range."""
    return f"{percent(shares.median)} ({percent(min(shares.values))}–{percent(max(shares.values))})"


def faster(one: Runs, other: Runs) -> Runs:
    """Return whichever has the larger median."""
    return one if one.median >= other.median else other


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table; the first column is text, the others are numbers."""
    yield "| " + " | ".join(header) + " |"
    yield "| --- |" + " --: |" * (len(header) - 1)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"


def n_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Return processor, cores and memory, as far as the system says."""
    cpu = next(iter(_values(CPU_INFO, "model name")), platform.processor() or platform.machine())
    memory = next(iter(_values(MEMORY_INFO, "MemTotal")), "")
    size = f", {int(memory.split()[0]) / 1024**2:.0f} GiB of memory" if memory else ""
    return f"{cpu}, {n_cores()} cores{size}, {platform.system()} {platform.machine()}"


def versions() -> str:
    """Return the versions of this side."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("designspace", "torch", "transformers"))
    return f"Python {platform.python_version()}, {packages}"


def _values(file: Path, key: str) -> list[str]:
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
