"""Where Ray is looked for, and what is asked of it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from cluster import cores
from cluster.attempt import ExecutorError
from cluster.limits import Limits
from cluster.ray_session import _attach, _check_reachable, _short_temp_dir, placement, resolved_address


def test_the_address_is_the_argument_else_the_environment_else_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never left out, since Ray would then attach to any cluster on the host."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "local" == resolved_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert "head:6379" == resolved_address(None)
    assert "other:6379" == resolved_address("other:6379")


def test_a_wrong_address_is_an_error_at_once() -> None:
    """Ray itself would try for minutes. Port 1 on this machine is closed."""
    with pytest.raises(ExecutorError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        _check_reachable("127.0.0.1:1")


def test_what_listens_and_is_no_ray_is_an_error_within_the_limit() -> None:
    """Ray itself would wait for ever. Three seconds here instead of 60, and the time to end a process beside other work."""
    began_s = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ExecutorError) as caught:
        _attach(f"127.0.0.1:{other.getsockname()[1]}", Limits(attach_s=3.0))
    assert time.monotonic() - began_s < 20.0
    (line,) = str(caught.value).splitlines()
    assert "has not answered as Ray does within 3 s; give the address of one with --address or RAY_ADDRESS" in line


def test_long_temporary_folders_are_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's path must stay below 108 bytes; batch systems like deep folders."""
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert _short_temp_dir() is None
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + "job/" * 20)
    made = _short_temp_dir()
    assert made is not None
    assert len(str(made)) < 30
    made.rmdir()


@pytest.mark.parametrize(("limit", "expected"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1)])
def test_a_container_limit_bounds_the_cores(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Affinity shows the machine's cores, not the container's share of them."""
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(cores, "_CGROUP_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert expected == cores.usable_cores()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("workers", "n_shards", "n_actors"), [(None, 1, 1), (None, 2, 2), (None, 5, 2), (1, 5, 1), (2, 1, 2)]
)
def test_one_actor_per_core_as_far_as_there_are_shards(workers: int | None, n_shards: int, n_actors: int) -> None:
    """The fixture's Ray has two CPUs; cores without an actor of their own become threads."""
    where = placement(workers, n_shards, is_local=True)
    assert (n_actors, 0) == (where.n_actors, where.n_gpus)
    assert 1 <= where.threads <= 2
    assert where.threads * where.n_actors <= 2
