"""How fast an arm decodes on this machine, how near that is to the physical floor, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Generation, Request
from designspace.axes.randomness import stream_key
from designspace.engine.engine import Engine
from designspace.engine.hook import REGIONS, EngineHook
from designspace.models.quantization import bytes_saved

PARTS = (*REGIONS, "host")


class PartClock(EngineHook):
    """Adds up the seconds of an engine's regions, with the device's work for them: it waits for the device at each end.

    A step that is replayed as one CUDA graph has its attention counted under the model.
    """

    def __init__(self, device: torch.device, regions: Collection[str] = REGIONS) -> None:
        """`regions`: those that are timed."""
        self.spent_s = dict.fromkeys(regions, 0.0)
        self._device = device

    def region(self, name: str) -> AbstractContextManager[None]:
        """Time a region."""
        return self._timed(name) if name in self.spent_s else super().region(name)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        _wait(self._device)
        started_s = time.perf_counter()
        try:
            yield
        finally:
            _wait(self._device)
            self.spent_s[name] += time.perf_counter() - started_s


@dataclass(frozen=True)
class Machine:
    """What a device achieved: read bandwidth of memory, and peak of large matrix products in one type."""

    bytes_per_s: float
    flop_per_s: float


@dataclass(frozen=True)
class Speed:
    """One arm on one machine.

    tokens_per_s: generated tokens over the whole run, prompts and events included. step_s: one decode step of all rows
    without events. floor_s: the least that the device needs for it, the larger of bytes over bandwidth and operations over
    peak. time_shares: of a run with a clock, by `PARTS`. runs_tokens_per_s: of each run, of which tokens_per_s is the median.
    setup_s: building the engine and its first, short run.
    """

    rows: int
    capacity: int
    n_new_tokens: int
    setup_s: float
    tokens_per_s: float
    step_s: float
    floor_s: float
    time_shares: dict[str, float]
    runs_tokens_per_s: tuple[float, ...] = ()

    @property
    def floor_share(self) -> float:
        """Share of a decode step that the device's limits account for."""
        return self.floor_s / self.step_s

    def document(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {**asdict(self), "floor_share": self.floor_share}


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure a device: reading 256 MB, and products of 2,048 x 2,048 matrices; the best of a few tries."""
    block = torch.ones(64 * 2**20, dtype=torch.float32, device=device)
    a, b = (torch.ones(2048, 2048, dtype=dtype, device=device) for _ in range(2))
    read_s = min(_seconds(block.sum, device) for _ in range(7))
    product_s = min(_seconds(lambda: a @ b, device) for _ in range(7))
    return Machine(block.nbytes / read_s, 2 * 2048**3 / product_s)


def measure(build: Callable[[], Engine], *, n_runs: int = 5, prompt_tokens: int = 32) -> Speed:
    """Measure the engine that `build` returns, on full batches of random prompts that all run to its token limit.

    The engine's model must end no text early (`eos_ids` empty). Medians of `n_runs` runs, after a run to warm up.
    """
    started_s = time.perf_counter()
    engine = build()
    todo = _requests(engine, prompt_tokens)
    list(engine.generate([Request(r.problem_id, r.prompt_ids, r.stream, max_new_tokens=8) for r in todo]))
    setup_s = time.perf_counter() - started_s
    machine = measure_machine(engine.loaded.device, engine.loaded.dtype)
    runs = [_run(engine, todo) for _ in range(n_runs)]
    shares, done = _where_time_goes(engine, todo)
    wall_s = median(seconds for seconds, _ in runs)
    decode_s = wall_s * (1 - shares["prefill"] - shares["events"])
    return Speed(
        rows=engine.rows,
        capacity=engine.capacity,
        n_new_tokens=engine.max_new_tokens,
        setup_s=setup_s,
        tokens_per_s=runs[0][1] / wall_s,
        step_s=decode_s / (engine.max_new_tokens - 1),
        floor_s=floor_s(engine, machine, done),
        time_shares=shares,
        runs_tokens_per_s=tuple(n_tokens / seconds for seconds, n_tokens in runs),
    )


def floor_s(engine: Engine, machine: Machine, done: list[Generation]) -> float:
    """Return the least seconds of a decode step: weights read once, each row's cache as the ledger has it, all products.

    done: generations of the engine, for the mean tokens and bytes that a step attends to.
    """
    model, geometry, rows = engine.loaded.model, engine.loaded.geometry, engine.rows
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embedding
    n_weights = sum(weight.numel() for weight in model.parameters()) - (0 if tied else embedding.numel())
    tokens = sum(g.mean_cache_tokens for g in done) / len(done)
    cache_bytes = sum(g.mean_read_bytes for g in done) / len(done)
    attention = 4 * geometry.n_layers * geometry.n_query_heads * geometry.head_dim * tokens
    quantization = None if engine.loaded.spec is None else engine.loaded.spec.quantization
    n_bytes = n_weights * embedding.element_size() - bytes_saved(model, quantization) + rows * cache_bytes
    return max(n_bytes / machine.bytes_per_s, rows * (2 * n_weights + attention) / machine.flop_per_s)


def _requests(engine: Engine, prompt_tokens: int) -> list[Request]:
    n_words = engine.loaded.model.get_input_embeddings().weight.shape[0]
    random = torch.Generator().manual_seed(0)
    length = min(prompt_tokens, engine.max_prompt_tokens)
    prompts = torch.randint(0, n_words, (engine.rows, length), generator=random).tolist()
    return [Request(str(i), tuple(ids), stream_key(0, str(i), 0)) for i, ids in enumerate(prompts)]


def _run(engine: Engine, todo: list[Request]) -> tuple[float, int]:
    """Return seconds and generated tokens."""
    _wait(engine.loaded.device)
    started_s = time.perf_counter()
    n_tokens = sum(generation.n_new_tokens for generation in engine.generate(todo))
    _wait(engine.loaded.device)
    return time.perf_counter() - started_s, n_tokens


def _where_time_goes(engine: Engine, todo: list[Request]) -> tuple[dict[str, float], list[Generation]]:
    """Run once more with a clock around the parts, which waits for the device at each: slower than a run without."""
    clock, former = PartClock(engine.loaded.device), engine.hook
    engine.hook = clock
    try:
        started_s = time.perf_counter()
        done = list(engine.generate(todo))
        wall_s = time.perf_counter() - started_s
    finally:
        engine.hook = former
    spent = dict(clock.spent_s)
    spent["model"] -= spent["attention"]
    spent["host"] = wall_s - sum(spent.values())
    return {part: seconds / wall_s for part, seconds in spent.items()}, done


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    _wait(device)
    started_s = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started_s


def _wait(device: torch.device) -> None:
    """Let a device finish; a stream that is being captured cannot be waited for."""
    if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize(device)
