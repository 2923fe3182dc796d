"""Decode throughput of every catalogue mechanism on a pocket model, as a ratio to the full cache in the same run.

    python -m benchmarks.throughput [--model pocket-llama] [--budget 48] [--rows 64] [--tokens 256]

All arms generate the same number of tokens (the end-of-text token is ignored), one after the other on one thread, and the
full cache is measured before and after, so that a drift of the machine shows.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch

from designspace.axes import Budget, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import catalog
from designspace.tasks.task_spec import TaskSpec
from families.decoding.greedy import Greedy


def tokens_per_s(loaded: LoadedModel, spec: ModelSpec, name: str, arguments: argparse.Namespace) -> float:
    """Return decode tokens per second of one mechanism, prompts included in the time."""
    problems = TaskSpec("chain-arithmetic", "dev", problems=arguments.rows).load()
    requests = [Request(p.problem_id, loaded.encode(p.prompt), stream_key(0, p.problem_id, 0)) for p in problems]
    arm = catalog()[name].override(name, decoding=Greedy())
    engine = Engine(
        LoadedModel(loaded.model, loaded.tokenizer, loaded.geometry, frozenset(), spec),
        arm,
        Budget(arguments.budget) if arm.budget_applies else None,
        rows=arguments.rows,
        max_new_tokens=arguments.tokens,
        max_prompt_tokens=max(len(request.prompt_ids) for request in requests),
        artefacts={name: load_artefact(spec, name) for name in arm.needs().calibrations},
    )
    started_s = time.perf_counter()
    n_tokens = sum(generation.n_new_tokens for generation in engine.generate(requests))
    return n_tokens / (time.perf_counter() - started_s)


def main() -> None:
    """Measure and print one line per mechanism."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket-llama")
    for option, default in (("budget", 48), ("rows", 64), ("tokens", 256)):
        parser.add_argument(f"--{option}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec = ModelSpec.bundled(arguments.model)
    loaded = load_model(spec)
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}, {arguments}")
    tokens_per_s(loaded, spec, "streaming-llm", arguments)  # warm-up
    baseline = tokens_per_s(loaded, spec, "full", arguments)
    for name in catalog():
        speed = tokens_per_s(loaded, spec, name, arguments)
        print(f"{name:14s} {speed:8.0f} tokens/s  {speed / baseline:5.2f} x full")


if __name__ == "__main__":
    main()
