"""Peak memory of an arm as measured, against what `designspace.memory.footprint` states before anything runs.

    python -m benchmarks.memory [--model pocket 0.1b] [--arm full triattention alpha r-kv h2o kivi] [--device cpu]

One process per arm: it loads the model, warms up on one row, and then runs as many rows as make a cache of the asked size.
Measured is the peak over what the process held before the engine was made: resident memory on a CPU, allocated memory on a
CUDA device. Prompts are random tokens, as long as the cache is large, so that events come after a few steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import resident
from benchmarks.measured import machine, table, versions
from benchmarks.subject import subject
from designspace.axes import Artefact, Budget, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.prefill import bucket, prompts_per_pass
from designspace.errors import CalibrationError
from designspace.memory.footprint import ArmMemory
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec, bundled_names
from designspace.registry import catalog
from families.decoding.greedy import Greedy

ARMS = ("full", "triattention", "alpha", "r-kv", "h2o", "kivi")
_MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """One measurement. `n_prompt`, `n_new`: tokens; `cache_mib`: how large the cache is to be, about."""

    model: str
    arm: str
    budget: int
    n_prompt: int
    n_new: int
    cache_mib: int
    device: str
    threads: int


@dataclass(frozen=True)
class Found:
    """Bytes: measured over the weights, and as stated."""

    rows: int
    measured: int
    cache: int
    workspace: int

    @property
    def ratio(self) -> float:
        """Measured over stated."""
        return self.measured / (self.cache + self.workspace)


def measure(setting: Setting) -> Found:
    """Run one arm in this process and return what was found.

    Raises:
        CalibrationError: the arm needs an artefact that the model does not have.
    """
    torch.set_num_threads(setting.threads)
    spec = _spec(setting.model)
    found = catalog()[setting.arm]
    mechanism = found.override(setting.arm, decoding=Greedy())
    budget = Budget(setting.budget) if mechanism.budget_applies else None
    artefacts = {name: load_artefact(spec, name) for name in mechanism.needs().calibrations}
    arm = ArmMemory(
        load_model(spec, "cpu"),
        mechanism,
        budget,
        max_new_tokens=setting.n_new,
        max_prompt_tokens=setting.n_prompt,
        artefacts=artefacts,
        n_prompts=prompts_per_pass(bucket(setting.n_prompt)),  # none is asked for twice, so no more than a pass waits
    )
    rows = _rows(arm, setting.cache_mib * _MIB)
    stated = arm.at(rows)
    loaded = load_model(spec, setting.device)
    endless = LoadedModel(loaded.model, loaded.tokenizer, loaded.geometry, frozenset(), spec)
    _generate(endless, mechanism, budget, artefacts, setting, rows=1)
    before = _start(setting.device)
    _generate(endless, mechanism, budget, artefacts, setting, rows=rows)
    return Found(rows, _peak(setting.device) - before, stated.cache, stated.workspace)


def _rows(arm: ArmMemory, cache_bytes: int) -> int:
    return max(1, round(cache_bytes / (arm.cache(2) - arm.cache(1))))


def _generate(
    loaded: LoadedModel,
    mechanism: Mechanism,
    budget: Budget | None,
    artefacts: Mapping[str, Artefact],
    setting: Setting,
    *,
    rows: int,
) -> None:
    engine = Engine(
        loaded,
        mechanism,
        budget,
        rows=rows,
        max_new_tokens=setting.n_new,
        max_prompt_tokens=setting.n_prompt,
        artefacts=artefacts,
    )
    random = torch.Generator().manual_seed(0)
    vocabulary = loaded.model.config.vocab_size
    prompts = torch.randint(vocabulary, (rows, setting.n_prompt), generator=random).tolist()
    requests = [Request(f"p{i}", tuple(prompt), stream_key(0, f"p{i}", 0)) for i, prompt in enumerate(prompts)]
    assert sum(generation.n_new_tokens for generation in engine.generate(requests)) == rows * setting.n_new


def _start(device: str) -> int:
    """Begin a new peak; return what is held now."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    held = resident.begin_peak()
    if not held:
        raise SystemExit("this system does not say how much memory a process holds: /proc is needed")
    return held


def _peak(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    return resident.peak()


def _spec(model: str) -> ModelSpec:
    if model in bundled_names():
        return ModelSpec.bundled(model)
    found = subject(model)
    return ModelSpec(model, path=str(found.path), dtype=found.dtype)  # type: ignore[arg-type]


def in_own_process(setting: Setting) -> Found | None:
    """Return what a fresh process finds, None where the model lacks a calibration."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", json.dumps(vars(setting))]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return Found(**answer) if answer else None


def main(argv: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["pocket-llama", "0.1b"])
    parser.add_argument("--arm", nargs="+", default=list(ARMS))
    for option, default in (("budget", 256), ("n-prompt", 312), ("n-new", 16), ("cache-mib", 208), ("threads", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one is not None:
        try:
            print(json.dumps(vars(measure(Setting(**json.loads(arguments.one))))))
        except CalibrationError:
            print("{}")
        return
    rows = []
    for model in arguments.model:
        for arm in arguments.arm:
            found = in_own_process(
                Setting(
                    model,
                    arm,
                    arguments.budget,
                    arguments.n_prompt,
                    arguments.n_new,
                    arguments.cache_mib,
                    arguments.device,
                    arguments.threads,
                )
            )
            rows.append((model, arm, *_cells(found)))
    print(f"{machine()}; {versions()}; device {arguments.device}\n")
    print("\n".join(table(("model", "arm", "rows", "measured, MiB", "cache", "workspace", "measured / stated"), rows)))


def _cells(found: Found | None) -> tuple[str, ...]:
    if found is None:
        return ("no calibration", "", "", "", "")
    sizes = (f"{n_bytes / _MIB:.1f}" for n_bytes in (found.measured, found.cache, found.workspace))
    return (str(found.rows), *sizes, f"{found.ratio:.2f}")


if __name__ == "__main__":
    main()
