"""How decode throughput grows: with rows, with the budget, along one long text, and with the number of layers.

    python -m benchmarks.growth [--only rows budget length layers] [--runs 5] [--plots benchmarks/plots]

One process of one thread. Rows, budget and length on the pocket model, layers on random models of width 128. For rows, budget
and layers a run is `interval` steps with one event at their end, from prompts as long as the budget, so that the cache is at
its size from the first step; the time of the prompts (a run that ends with its first token) is subtracted. Along a long text
time is read whenever a row that writes `window` tokens at a time finishes; that row's next prompt is in the time.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.arm import arm
from benchmarks.engine_side import new_engine, without_end
from benchmarks.measured import Runs, table
from benchmarks.random_model import DEFAULT_FOLDER, Shape, write_model
from benchmarks.settings import preamble, progress
from benchmarks.subject import POCKET, subject
from designspace.axes import Budget, Request
from designspace.engine import Engine
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec

ROWS = (1, 4, 16, 64, 256, 512)
BUDGETS = (32, 64, 128, 256, 512, 1024, 2048)
LAYERS = (2, 4, 8, 16, 24)
FEW = 16  # rows where the rows are not what varies
WINDOWS = 16
N_PROMPT = 32


@dataclass(frozen=True)
class Curve:
    """Tokens per second along one axis."""

    name: str
    axis: str
    points: tuple[tuple[int, Runs], ...]
    note: str
    logarithmic: bool = True

    def lines(self) -> Iterator[str]:
        """Yield the Markdown of a table."""
        yield f"### {self.name}\n\n{self.note}\n"
        yield from table((self.axis, "tokens per second", "× the first"), [self._row(*point) for point in self.points])
        yield ""

    def _row(self, at: int, rates: Runs) -> tuple[str, str, str]:
        return str(at), str(rates), f"{rates.median / self.points[0][1].median:.2f}"

    def plot(self, folder: Path) -> Path:
        """Draw medians and ranges into a PNG file.

        Raises:
            SystemExit: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise SystemExit("plots need matplotlib: pip install matplotlib, or use --no-plots") from error
        at = [x for x, _ in self.points]
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(at, [rates.median for _, rates in self.points], marker="o")
        low, high = zip(*[(min(rates.values), max(rates.values)) for _, rates in self.points], strict=True)
        axes.fill_between(at, low, high, alpha=0.2)
        if self.logarithmic:
            axes.set_xscale("log", base=2)
            axes.set_xticks(at, [str(x) for x in at])
        axes.set(xlabel=self.axis, ylabel="tokens per second", title=self.name, ylim=(0, None))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.name.replace(' ', '_')}.png"
        figure.savefig(file, dpi=150)
        return file


class Growth:
    """The measurements, with what is common to them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.interval = arguments, arguments.interval
        self.pocket = without_end(load_model(ModelSpec(POCKET, path=str(subject(POCKET).path))))

    def rows(self) -> Curve:
        """Throughput against rows."""
        points = tuple((rows, self._rate(self.pocket, rows, self.arguments.budget)) for rows in ROWS)
        return Curve("rows", "rows", points, f"Budget {self.arguments.budget}.")

    def budget(self) -> Curve:
        """Throughput against the budget."""
        points = tuple((budget, self._rate(self.pocket, FEW, budget)) for budget in BUDGETS)
        return Curve("budget", "slots per head after an event", points, f"{FEW} rows.")

    def layers(self) -> Curve:
        """Throughput against layers."""
        points = []
        for layers in LAYERS:
            folder = write_model(DEFAULT_FOLDER / f"width128-layers{layers}", Shape(128, layers, 4, 2, 32, 384, 131))
            loaded = without_end(load_model(ModelSpec(folder.name, path=str(folder))))
            points.append((layers, self._rate(loaded, FEW, self.arguments.budget)))
        return Curve(
            "layers", "layers of width 128", tuple(points), f"{FEW} rows, budget {self.arguments.budget}.", False
        )

    def length(self) -> Curve:
        """Throughput in windows along one long text."""
        window = self.arguments.length // WINDOWS
        engine = self._engine(self.pocket, FEW, self.arguments.budget, self.arguments.length, N_PROMPT)
        long = [Request("long", random_ids(idx, N_PROMPT), bytes(16)) for idx in range(FEW - 1)]
        marks = [Request("mark", random_ids(idx, N_PROMPT), bytes(16), window + 1) for idx in range(WINDOWS - 1)]
        timed(engine, [request.prompt_ids for request in long], self.interval + 4)
        runs = [window_rates(engine, [*long, *marks], window) for _ in range(self.arguments.runs)]
        points = tuple(((idx + 2) * window, Runs(rates)) for idx, rates in enumerate(zip(*runs, strict=True)))
        note = f"{FEW} rows, budget {self.arguments.budget}; each point is the last {window} tokens per row before it."
        return Curve("length", "tokens written", points, note, logarithmic=False)

    def _rate(self, loaded: LoadedModel, rows: int, budget: int) -> Runs:
        """Return decode tokens per second, prompts left out, after a first run that does not count."""
        engine = self._engine(loaded, rows, budget, self.interval + 1, budget)
        prompts = [random_ids(idx, budget) for idx in range(rows)]
        timed(engine, prompts, self.interval + 1)
        seconds = []
        for _ in range(self.arguments.runs):
            only_prompts_s = timed(engine, prompts, 1)
            seconds.append(timed(engine, prompts, self.interval + 1) - only_prompts_s)
        found = Runs(tuple(rows * self.interval / s for s in seconds))
        progress(f"{loaded.geometry.n_layers} layers, {rows} rows, budget {budget}: {found}")
        return found

    def _engine(
        self, loaded: LoadedModel, rows: int, budget: int, max_new_tokens: int, max_prompt_tokens: int
    ) -> Engine:
        return new_engine(
            loaded,
            arm(self.arguments.arm, self.interval),
            Budget(budget, "nominal"),
            rows=rows,
            max_new_tokens=max_new_tokens,
            max_prompt_tokens=max_prompt_tokens,
            step=self.arguments.step,
        )


def random_ids(seed: int, n_tokens: int) -> tuple[int, ...]:
    """Return tokens that any of the models here has, special ones left out."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(4, 131, (n_tokens,), generator=generator).tolist())


def timed(engine: Engine, prompts: Sequence[tuple[int, ...]], limit: int) -> float:
    """Return the seconds of one run with that many new tokens per row."""
    started_s = time.perf_counter()
    for _ in engine.generate([Request(str(idx), ids, bytes(16), limit) for idx, ids in enumerate(prompts)]):
        pass
    return time.perf_counter() - started_s


def window_rates(engine: Engine, requests: Sequence[Request], window: int) -> list[float]:
    """Return tokens per second of all rows between the ends of the texts called "mark", which take turns in one row.

    The first window is left out: it begins with the prompts of all rows.
    """
    generations = engine.generate(requests)
    ends_s = [time.perf_counter() for generation in generations if generation.problem_id == "mark"]
    return [engine.rows * window / (end - start) for start, end in itertools.pairwise(ends_s)]


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure and yield the lines of the section."""
    growth = Growth(arguments)
    yield (
        f"1 thread, `{arguments.arm}` every {arguments.interval} steps, greedy; median of {arguments.runs} runs (least–most).\n"
    )
    for name in arguments.only:
        curve: Curve = getattr(growth, name)()
        yield from curve.lines()
        if not arguments.no_plots:
            progress(f"wrote {curve.plot(arguments.plots)}")


def main(argv: list[str] | None = None) -> None:
    """Measure, print and draw."""
    curves = ("rows", "budget", "length", "layers")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=curves, default=curves)
    for option, default in (("runs", 5), ("budget", 128), ("interval", 64), ("length", 2048)):
        options.add_argument(f"--{option}", type=int, default=default)
    options.add_argument("--arm", default="snapkv")
    options.add_argument("--step", choices=("plain", "compiled"), default="compiled")
    options.add_argument("--plots", type=Path, default=Path(__file__).parent / "plots")
    options.add_argument("--no-plots", action="store_true")
    options.add_argument("--section", action="store_true", help="leave out machine and versions")
    arguments = options.parse_args(argv)
    torch.set_num_threads(1)
    print(preamble(arguments, "Growth of throughput"))
    for line in report(arguments):
        print(line, flush=True)


if __name__ == "__main__":
    main()
