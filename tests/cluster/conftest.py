"""Fixtures: one local Ray for the whole run, one tiny sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cluster import executor_suite, tiny


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start Ray once; executors use a Ray that is up and leave it so."""
    import ray

    from cluster.ray_session import ray_session

    ray.cloudpickle.register_pickle_by_value(executor_suite)  # the actors do not see the tests folder
    with ray_session("local", 2, say=lambda text: None):
        yield


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random models, six problems, 36 shards."""
    return tiny.write_sweep(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on busy cores are slower than one, and workers set the number for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
