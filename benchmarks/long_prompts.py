"""What long prompts cost: seconds of the processor and memory, read whole, in chunks, or cut block by block.

    python -m benchmarks.long_prompts [--model FOLDER] [--lengths 1024 4096 16384 32752] [--dtype float32]

Each line of the table is a process of its own that reads one random prompt and writes 16 tokens. Memory is the most that the
process took above what it had before the prompt. Without a folder the model is a random one of 0.1 B weights.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.measured import figure, machine, table, versions
from benchmarks.settings import progress
from benchmarks.subject import subject
from designspace.axes import Budget, Mechanism, Request
from designspace.engine import Engine
from designspace.errors import DesignspaceError
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy

LENGTHS = (1024, 4096, 16_384, 32_752)  # with the new tokens the last one fills 32,768 positions
CHUNK, BLOCK, TOKENS, N_NEW = 2048, 512, 512, 16
WAYS = ("whole", f"in chunks of {CHUNK:,}", f"cut to {TOKENS} after every {BLOCK}")


class Cost(NamedTuple):
    """What one prompt took, above what the process had before. cache_tokens: per head, the most that a step attended to."""

    cpu_s: float
    peak_bytes: int
    cache_tokens: float


def arm(way: str) -> tuple[Mechanism, Budget | None, int | None]:
    """Return the mechanism of a way to read prompts, its budget, and the size of its chunks."""
    if way == WAYS[2]:
        blocks = EveryK(k=16, prompt_block=BLOCK)
        return mechanism("streaming-llm").override("blocks", cadence=blocks, decoding=Greedy()), Budget(TOKENS), None
    return mechanism("full").override("full", decoding=Greedy()), None, CHUNK if way == WAYS[1] else None


def cost(model: ModelSpec, way: str, n_tokens: int) -> Cost:
    """Read one prompt and write a few tokens."""
    torch.set_num_threads(1)
    loaded = load_model(model)
    found, budget, chunk = arm(way)
    ids = torch.randint(5, loaded.model.config.vocab_size, (n_tokens,), generator=torch.Generator().manual_seed(0))
    before, begun_s = _peak_bytes(), time.process_time()
    engine = Engine(
        loaded, found, budget, rows=1, max_new_tokens=N_NEW, max_prompt_tokens=n_tokens, prefill_chunk=chunk
    )
    (written,) = engine.generate([Request("p", tuple(ids.tolist()), bytes(16))])
    return Cost(time.process_time() - begun_s, _peak_bytes() - before, written.peak_cache_tokens)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(model: ModelSpec, lengths: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    rows = []
    for way in WAYS:
        for n_tokens in lengths:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found = process.submit(cost, model, way, n_tokens).result()
            progress(f"{way}, {n_tokens:,}: {found}")
            each = 1000 * found.cpu_s / n_tokens
            memory = f"{found.peak_bytes / 2**20:,.0f}"
            rows.append((way, f"{n_tokens:,}", figure(found.cpu_s), figure(each), memory, f"{found.cache_tokens:,.0f}"))
    return rows


def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder with a model")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    folder = arguments.model or subject("0.1b").path
    print(f"## Long prompts: {folder.name}, {arguments.dtype}\n\n{machine()}\n\n{versions()}\n")
    header = ("prompt", "tokens", "CPU seconds", "ms per token", "MiB", "slots per head at most")
    model = ModelSpec(folder.name, path=str(folder), dtype=arguments.dtype)
    try:
        rows = measure(model, arguments.lengths)
    except DesignspaceError as error:
        parser.error(str(error))
    print("\n".join(table(header, rows)))


if __name__ == "__main__":
    main()
