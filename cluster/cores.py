"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the cores this process may use: affinity and container limit, not what the machine has."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    limit = _container_limit()
    return n_cores if limit is None else max(1, min(n_cores, limit))


def _container_limit() -> int | None:
    # A container with two of 64 cores still shows 64 in its affinity; 64 threads on two cores are slower than two.
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) // int(period)
