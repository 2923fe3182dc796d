"""How many CPU cores this process may use, and how many of them a model should."""

from __future__ import annotations

import os
from pathlib import Path

from designspace.models.model_spec import ModelSpec

SMALL_WEIGHTS_BYTES = 50 * 10**6  # of weights on disk, below which one thread is as fast as several
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the cores this process may use: affinity and container limit, not what the machine has."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    limit = _container_limit()
    return n_cores if limit is None else max(1, min(n_cores, limit))


def default_threads() -> int:
    """Return the threads that torch would use, as far as there are cores."""
    # torch knows OMP_NUM_THREADS and what the caller has set, but not the limit of a container.
    import torch

    return min(torch.get_num_threads(), usable_cores())


def sensible_threads(model: ModelSpec, most: int) -> int:
    """Return how many threads to run a model with: one for a small one, else `most`, which OMP_NUM_THREADS enforces.

    The tensors of a small model are too small to be shared out: threads that wait for each other bring nothing on quiet
    cores, and beside other work take many times as long.
    """
    return 1 if "OMP_NUM_THREADS" not in os.environ and _is_small(model) else most


def _is_small(model: ModelSpec) -> bool:
    files = list(model.folder.glob("*.safetensors")) if model.folder is not None else []
    return bool(files) and sum(file.stat().st_size for file in files) < SMALL_WEIGHTS_BYTES


def _container_limit() -> int | None:
    # A container with two of 64 cores still shows 64 in its affinity; 64 threads on two cores are slower than two.
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) // int(period)
