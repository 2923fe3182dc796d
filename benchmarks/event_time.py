"""Time of one compression event, per selector and per scoring, as a ratio to TriAttention with top-k in the same run.

    python -m benchmarks.event_time [--geometry pocket 0.1b 3x2x2x32] [--budget 128] [--interval 64] [--rows 16]
                                    [--repetitions 9] [--threads 1] [--patience 10]

No model: random queries, keys and values go through the decode pass into a slot cache of `budget + interval` tokens per
head, which every event cuts to `budget`. All selectors work on the same TriAttention scores; scorings have their default
selector. "decide" is score, allocate, select and order; "event" is what the engine does: read the rows, decide, move the
kept slots. Repetitions are interleaved: one round times every arm once, each on a cache in the same state. A cell is the
median and, in brackets, the quartiles, of milliseconds or of the ratios within a round. The first round warms up and does
not count, but for arms that take more than `patience` seconds there: they are timed no further and show that one number.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import torch

from designspace.axes import Artefact, Geometry, Mechanism, Needs, Observed, RunContext, Scoring, Selector
from designspace.axes.artefact import Q_STATISTICS
from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import LayerCall
from designspace.cache.slots import SlotCache
from designspace.engine.compress import compress
from designspace.environment import environment
from designspace.errors import DeclarationError
from designspace.registry import kinds, strategy
from families.cadence.every_k import EveryK
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.top_k import TopK
from families.scoring.triattention import TriAttention

GEOMETRIES = {"pocket": "3x2x2x32", "0.1b": "12x4x3x64"}  # layers x KV heads x query heads per KV head x head dimension
REFERENCE = "top-k"
CPU_INFO = Path("/proc/cpuinfo")


class Times(NamedTuple):
    """Seconds of one event: the decision alone, and with reading and moving."""

    decide_s: float
    event_s: float


class Filled:
    """A cache with all rows as they are before an event, and the way back to that."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        self._before = [cache.snapshot(row) for row in range(cache.rows)]

    def restore(self) -> None:
        """Undo an event of all rows."""
        for row, snapshot in enumerate(self._before):
            self.cache.restore(row, snapshot)


@dataclass
class Arm:
    """A mechanism, the filled cache its events start from, and what they took, warm-up first."""

    name: str
    mechanism: Mechanism
    filled: Filled
    context: RunContext
    times: list[Times] = field(default_factory=list)

    def run(self, budget: int) -> None:
        """Time one event of all rows, and undo it."""
        cache = self.filled.cache
        rows, target = torch.arange(cache.rows), torch.full((cache.rows,), budget)
        started_s = time.perf_counter()
        view = cache.view(rows, self.context, target)
        if self.mechanism.needs().foresight:
            view.observed.foreseen = torch.rand(view.positions.shape, generator=torch.Generator().manual_seed(0))
        read_s = time.perf_counter()
        kept = compress(self.mechanism, view)
        decided_s = time.perf_counter()
        cache.compact(rows, cache.rows, view, kept)
        self.times.append(Times(decided_s - read_s, time.perf_counter() - started_s))
        self.filled.restore()

    def counted(self, reference: Arm) -> list[tuple[list[float], list[float]]]:
        """Return seconds of this arm and of the reference in the same rounds, for the decision and for the event."""
        rounds = slice(1, None) if len(self.times) > 1 else slice(1)
        pairs = zip(zip(*self.times[rounds], strict=True), zip(*reference.times[rounds], strict=True), strict=True)
        return [(list(own), list(base)) for own, base in pairs]


class Synthetic:
    """Random caches, calibration and weights of one geometry; caches are shared by arms that observe the same."""

    def __init__(self, geometry: Geometry, arguments: argparse.Namespace) -> None:
        self.geometry, self.rows, self.seed = geometry, arguments.rows, arguments.seed
        self.n_tokens, self.budget = arguments.budget + arguments.interval, arguments.budget
        generator = torch.Generator().manual_seed(self.seed)
        heads = (geometry.n_layers, geometry.n_query_heads)
        real, imag = torch.randn(2, *heads, geometry.head_dim // 2, generator=generator)
        tensors = {"q_mean_real": real, "q_mean_imag": imag, "q_abs_mean": 1.5 * torch.hypot(real, imag)}
        self.artefacts = {Q_STATISTICS: Artefact(Q_STATISTICS, tensors)}
        self.hidden = hidden = geometry.n_query_heads * geometry.head_dim
        self.output_projection = torch.randn(*heads, geometry.head_dim, hidden, generator=generator) / hidden**0.5
        self._caches: dict[Needs, Filled] = {}

    def arm(self, name: str, scoring: Scoring, interval: int) -> Arm:
        """Return an arm on this geometry.

        Raises:
            DeclarationError: the scoring needs what is not made up here, or does not work on this geometry.
        """
        mechanism = Mechanism(name, scoring, Uniform(), EveryK(interval), FullPrecision())
        needs = mechanism.needs()
        missing = [f"calibration {name!r}" for name in needs.calibrations if name not in self.artefacts]
        reasons = missing + mechanism.geometry_errors(self.geometry)
        if reasons:
            raise DeclarationError(reasons)
        if needs not in self._caches:
            self._caches[needs] = self._filled(needs)
        projection = self.output_projection if needs.output_projection else None
        context = RunContext.of(scoring, self.geometry, self.n_tokens, self.artefacts, projection, self.budget)
        return Arm(name, mechanism, self._caches[needs], context)

    def _filled(self, needs: Needs) -> Filled:
        """Decode `n_tokens` random tokens in every row; the same ones whatever is observed."""
        geometry, generator = self.geometry, torch.Generator().manual_seed(self.seed)
        cache = SlotCache(
            geometry,
            FullPrecision(),
            needs,
            rows=self.rows,
            capacity=self.n_tokens + 1,
            dtype=torch.float32,
            device=torch.device("cpu"),
            width=self.n_tokens,
        )
        cache.active[:] = True
        cache.streams[:] = torch.arange(self.rows)
        empty = Observed(
            sentence_ends=torch.full((self.rows, 1), -1), sentence_sums=torch.zeros(self.rows, 1, self.hidden)
        )
        cache.observers.load(cache.streams, empty)
        decode, dim = DecodePass(cache), geometry.head_dim
        for _ in range(self.n_tokens):
            cache.begin_step()
            for layer in range(geometry.n_layers):
                query = torch.randn(self.rows, geometry.n_query_heads, 1, dim, generator=generator)
                key, value = torch.randn(2, self.rows, geometry.n_kv_heads, 1, dim, generator=generator)
                decode.attend(LayerCall(layer, dim**-0.5), query, key, value)
            if needs.sentences:  # of 16 tokens
                cache.check_room(1)
                ended = cache.next_position % 16 == 15
                cache.record_sentences(torch.randn(self.rows, self.hidden, generator=generator), ended)
            cache.end_step()
        return Filled(cache)


def selectors() -> Iterator[tuple[str, Selector]]:
    """Yield the reference, α's selector with both of its scopes, and every other registered selector."""
    yield REFERENCE, TopK()
    yield "diversity", Diversity()
    yield "diversity, scope layer-head", Diversity(scope="layer-head")
    for kind in kinds("selector"):
        if kind not in (TopK.kind, Diversity.kind):
            yield kind, strategy("selector", kind)()  # type: ignore[misc]


def scorings() -> Iterator[tuple[str, Scoring]]:
    """Yield every registered scoring that ranks, with its defaults; what reworks another scoring reworks H2O."""
    for kind in kinds("scoring"):
        scoring_type = strategy("scoring", kind)
        base = {"scoring": H2O()} if any(parameter.name == "scoring" for parameter in fields(scoring_type)) else {}
        scoring = scoring_type(**base)
        if isinstance(scoring, Scoring) and not scoring.keeps_everything:
            yield kind, scoring


def parse_geometry(text: str) -> Geometry:
    """Return the geometry of a name, or of LxH_kvxGxD."""
    try:
        n_layers, n_kv_heads, group, dim = map(int, GEOMETRIES.get(text, text).split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(GEOMETRIES)}, or like 3x2x2x32") from error
    inv_freq = 10000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    return Geometry(n_layers, n_kv_heads * group, n_kv_heads, dim, inv_freq)


def spread(numbers: list[float], digits: int) -> str:
    """Return median and quartiles, or the only number."""
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    low, middle, high = torch.quantile(torch.tensor(numbers), torch.tensor([0.25, 0.5, 0.75])).tolist()
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(title: str, arms: list[Arm], reference: Arm) -> Iterator[str]:
    """Yield the lines of one Markdown table."""
    yield f"| {title} | decide, ms | x {REFERENCE} | event, ms | x {REFERENCE} |"
    yield "| --- | --: | --: | --: | --: |"
    for arm in arms:
        cells = []
        for own, base in arm.counted(reference):
            cells.append(spread([1000 * t for t in own], 1))
            cells.append(spread([t / r for t, r in zip(own, base, strict=True)], 2))
        yield f"| `{arm.name}` | " + " | ".join(cells) + " |"


def machine() -> str:
    """Return the processor, as far as the system says."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


@torch.inference_mode()
def report(geometry: Geometry, arguments: argparse.Namespace) -> Iterator[str]:
    """Measure one geometry and yield the lines of its report."""
    synthetic = Synthetic(geometry, arguments)
    by_selector, by_scoring, left_out = [], [], []
    for name, selector in selectors():
        by_selector.append(synthetic.arm(name, TriAttention(selector=selector), arguments.interval))
    for name, scoring in scorings():
        try:
            by_scoring.append(synthetic.arm(name, scoring, arguments.interval))
        except DeclarationError as error:
            left_out.append(f"`{name}` ({error})")
    for _ in range(1 + arguments.repetitions):
        for arm in (*by_selector, *by_scoring):
            if not arm.times or arm.times[0].event_s < arguments.patience:
                arm.run(arguments.budget)
    yield (
        f"{geometry.n_layers} layers, {geometry.n_kv_heads} KV heads, {geometry.n_query_heads} query heads of dimension "
        f"{geometry.head_dim}; {arguments.rows} rows cut from {synthetic.n_tokens} to {arguments.budget} tokens per head.\n"
    )
    yield from table("selector on TriAttention's scores", by_selector, by_selector[0])
    yield ""
    yield from table("scoring", by_scoring, by_selector[0])
    yield f"\nLeft out: {'; '.join(left_out)}.\n" if left_out else ""


def main(argv: list[str] | None = None) -> None:
    """Measure and print two tables per geometry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", nargs="+", type=parse_geometry, default=[parse_geometry(g) for g in GEOMETRIES])
    options = (("budget", 128), ("interval", 64), ("rows", 16), ("repetitions", 9), ("threads", 1), ("seed", 0))
    for option, default in options:
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--patience", type=float, default=10.0)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    versions = environment()
    print(
        f"{machine()}, {arguments.threads} thread(s), {versions['python']}, torch {torch.__version__}, designspace "
        f"{versions['designspace']}, medians of {arguments.repetitions} interleaved repetitions, quartiles in brackets.\n"
    )
    for geometry in arguments.geometry:
        for line in report(geometry, arguments):
            print(line)


if __name__ == "__main__":
    main()
