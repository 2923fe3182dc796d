"""Attaching to Ray, or starting a small one: address rule, quiet start, short paths."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.attempt import ExecutorError
from cluster.cores import usable_cores
from cluster.limits import Limits

# Below a longer path the names of Ray's sockets exceed the 107 bytes that the kernel allows.
_MAX_TEMP_DIR_CHARS = 60
# Only summaries travel through Ray, rows go to Parquet, so the smallest store Ray takes without complaint will do.
_OBJECT_STORE_BYTES = 100 * 2**20
_CONNECT_DEADLINE_S = 10.0


class ClusterLost(ExecutorError):
    """The Ray under a run is gone, or has no machine left that a worker could run on."""


@dataclass(frozen=True)
class Placement:
    """How many actors, and what each asks Ray for."""

    n_actors: int
    threads: int
    n_gpus: int

    @property
    def device(self) -> str:
        """Where an actor puts its model."""
        return "cuda" if self.n_gpus else "cpu"


def resolved_address(address: str | None) -> str:
    """Return the address to use: the argument, else `RAY_ADDRESS`, else `local`.

    `local` is never left out: without an address Ray would attach to the last cluster started on the host, whoever
    started it.
    """
    return address or os.environ.get("RAY_ADDRESS") or "local"


@contextmanager
def ray_session(
    address: str | None, n_cores: int | None, say: Callable[[str], None], limits: Limits | None = None
) -> Iterator[None]:
    """Connect to Ray for the duration of the block; a Ray that the caller has connected already is used and left.

    Args:
        address: see `resolved_address`.
        n_cores: CPUs that a local Ray should believe in; None = those this process may use.
        say: told when a local Ray is started, since that takes seconds.
        limits: how long to wait for a cluster to answer; None = those of the environment.

    Raises:
        ExecutorError: no cluster at that address.
        ClusterLost: of the block, after which no process of a local Ray is left.
    """
    # Set before Ray is imported, which reads some of them then; a user's own settings win.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Under `uv run` Ray would replay that command on every worker and replace PYTHONPATH; environments are pre-built.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # The coming default; unset, Ray prints a warning about it from every CPU-only actor.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    where = resolved_address(address)
    temp_dir = None
    if where == "local":
        temp_dir = _start_local(n_cores, say)
    else:
        _attach(where, limits or Limits.from_environment())
    _silence_raylets()
    try:
        yield
    except ClusterLost:
        if where == "local":
            _kill_local()
        raise
    finally:
        ray.shutdown()
        if temp_dir is not None:
            shutil.rmtree(temp_dir, ignore_errors=True)


def placement(
    workers: int | None,
    n_shards: int,
    *,
    is_local: bool,
    say: Callable[[str], None] = lambda text: None,
    limits: Limits | None = None,
) -> Placement:
    """Return one actor per GPU if there are any, else `workers` on CPUs (default: one per core, as there are shards).

    A small model gains nothing from a second thread, but each actor holds a copy of the weights: where memory is short of
    one per core, say how many `workers`. Cores that no actor of its own can use are given to the others as threads.
    """
    import ray

    total = ray.cluster_resources() if is_local else _resources_of_cluster(say, limits or Limits())
    n_gpus, n_cores = int(total.get("GPU", 0)), max(1, int(total.get("CPU", 1)))
    if n_gpus:
        n_actors = min(workers or n_gpus, n_gpus)
        return Placement(n_actors, threads=max(1, min(4, n_cores // n_gpus)), n_gpus=1)
    n_actors = workers or max(1, min(n_shards, n_cores))
    largest_node = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    threads = max(1, min(n_cores // n_actors, largest_node))
    if is_local:
        # Ray may have been told of more cores than there are, so that all the workers asked for can start.
        threads = max(1, min(threads, usable_cores() // n_actors))
    return Placement(n_actors, threads, n_gpus=0)


def _resources_of_cluster(say: Callable[[str], None], limits: Limits) -> dict[str, float]:
    """Return a cluster's resources once it has any: a head without CPUs may be up before the first worker node."""
    import ray

    for n_waited_s in range(int(limits.start_s) + 1):
        total: dict[str, float] = ray.cluster_resources()
        if total.get("CPU") or total.get("GPU"):
            return total
        if n_waited_s == 0:
            say("waiting for the first node with CPUs or GPUs to join the cluster")
        time.sleep(1.0)
    raise ExecutorError(
        f"the Ray cluster has no node with CPUs or GPUs after {limits.start_s:.0f} s: add one with `ray start --address "
        f"{ray.get_runtime_context().gcs_address}` there, and type the same command again"
    )


def _start_local(n_cores: int | None, say: Callable[[str], None]) -> Path | None:
    import ray

    say("starting local Ray (about 5 s)")
    temp_dir = _short_temp_dir()
    ray.init(
        address="local",
        num_cpus=n_cores or usable_cores(),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,  # failures come back as data; the rest is noise between progress lines
        logging_level=logging.ERROR,
        _temp_dir=None if temp_dir is None else str(temp_dir),
    )
    return temp_dir


def _silence_raylets() -> None:
    """Keep Ray from printing the log of a raylet that has died: what there is to say of it, the run says in one line."""
    import ray

    # There is no setting for it. Should another version of Ray have no such function, the log is printed.
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda *args, **options: None


def _kill_local() -> None:
    """Kill what is left of a local Ray that is lost: an orderly end would wait for the answer of a stopped raylet."""
    import ray

    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _attach(address: str, limits: Limits) -> None:
    import ray

    _check_reachable(address)
    _check_answers(address, limits.attach_s)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ExecutorError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from error


def _check_answers(address: str, limit_s: float) -> None:
    """Connect from another process first, which can be killed: `ray.init` waits for ever where something else listens.

    Raises:
        ExecutorError: there is no cluster, or it does not answer within the limit.
    """
    script = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='error')"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", script, address], timeout=limit_s, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"what listens there has not answered as Ray does within {limit_s:.0f} s"
    else:
        if tried.returncode == 0:
            return
        reason = (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    raise ExecutorError(
        f"no Ray cluster at {address!r}: {reason}; give the address of one with --address or RAY_ADDRESS, which `ray start "
        f"--head` prints, or neither for a local Ray"
    )


def _check_reachable(address: str) -> None:
    """Say at once that nobody listens at `host:port`: Ray itself would try for minutes.

    Raises:
        ExecutorError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto` and the like: Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_DEADLINE_S).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"no Ray cluster at {address!r}: {error}; give the address of one with --address or RAY_ADDRESS, or neither for "
            f"a local Ray"
        ) from error


def _short_temp_dir() -> Path | None:
    """Return a folder for Ray's files if its own choice would be too long, None to leave the choice to Ray."""
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="r", dir="/tmp")) if len(usual) > _MAX_TEMP_DIR_CHARS else None
