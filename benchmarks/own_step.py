"""Tables of our own side: what a decode step takes next to what it must, and how much memory a run takes next to its slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.engine_fleet import Floor, Run
from benchmarks.measured import Runs, figure, percents, table

_GIB, _MIB = 2**30, 2**20


@dataclass(frozen=True)
class OwnSide:
    """One model and arm. generate_grown_bytes: by how much `generate` grew its processes, None where it did not run."""

    name: str
    rows: int
    runs: Sequence[Run]
    floor: Floor
    generate_grown_bytes: int | None = None

    @property
    def product_share(self) -> Runs:
        """Of each run: the seconds that a step's products take by themselves over those of the whole step."""
        return Runs(tuple(self.floor.products_s / run.step_s for run in self.runs))

    def step_cells(self) -> list[str]:
        """Return a row of the first table."""
        steps = Runs(tuple(1000 * run.step_s for run in self.runs))
        floors = Runs(tuple(self.floor.floor_s / run.step_s for run in self.runs))
        return [
            self.name,
            str(self.rows),
            str(steps),
            figure(1000 * self.floor.products_s),
            f"**{percents(self.product_share)}**",
            figure(self.floor.flop_per_s / 1e9),
            figure(self.floor.peak_flop_per_s / 1e9),
            percents(floors),
        ]

    def memory_cells(self) -> list[str]:
        """Return a row of the second table."""
        grown = max(run.grown_bytes for run in self.runs)
        last = self.runs[-1]
        most = max(run.process_bytes for run in self.runs)  # 0 where the system does not say
        return [
            self.name,
            figure(most / _GIB) if most else "",
            figure(grown / _MIB) if most else "",
            figure(last.allocated_bytes / _MIB),
            figure(last.held_bytes / _MIB),
            "" if self.generate_grown_bytes is None else figure(self.generate_grown_bytes / _MIB),
        ]


def lines(sides: Sequence[OwnSide]) -> Iterator[str]:
    """Yield both tables and what their columns mean."""
    yield (
        "\nOurs, one decode step without events and prompts. Products: `torch.mm` with every weight of the model in its own "
        "shape and type, for as many rows, in all processes at once; their share of the step; their rate, and that of large "
        "square matrices. Floor: the machine's limits for the whole step.\n"
    )
    header = ("model, score", "rows per process", "step, ms", "products, ms", "share of the step")
    rates = ("their rate, GFLOP/s", "of large matrices", "floor / step")
    yield from table((*header, *rates), [side.step_cells() for side in sides])
    yield (
        "\nMain memory, all processes together. Grown: the most in a run over what the processes held before their engines "
        "were made. Slots: the cache that is allocated, and how much of it the ledger had in use when texts held most.\n"
    )
    memory = (
        "model, score",
        "most held, GiB",
        "grown, MiB",
        "slots, MiB",
        "slots in use, MiB",
        "`generate` grown, MiB",
    )
    yield from table(memory, [side.memory_cells() for side in sides])
