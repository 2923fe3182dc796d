"""Whether the Ray cluster under a run is still there, and what to tell the user if it is not."""

from __future__ import annotations

import socket
import time

from cluster.attempt import ExecutorError
from cluster.limits import Limits
from cluster.ray_session import ClusterLost, Placement

_LOOK_EVERY_S = 2.0
_CONNECT_S = 1.0
_STOOD_STILL_S = 15.0  # without a look: this process itself was stopped, and what it missed is not the cluster's doing
_STAYS = "what is committed stays"


class ClusterHealth:
    """Looks after the cluster that this process is connected to.

    Args:
        is_local: whether this process has started it, so that it ends with it and nobody mends it.
        limits: how long its head may be out of reach.
    """

    def __init__(self, limits: Limits, *, is_local: bool) -> None:
        import ray

        self.address: str = ray.get_runtime_context().gcs_address
        self.is_lost = False
        self._is_local = is_local
        self._limit_s = limits.local_head_s if is_local else limits.head_s
        self._looked_s = time.monotonic()
        self._missed_s: float | None = None  # since when the head has been out of reach

    def check(self) -> None:
        """Look whether the head is there, every few seconds. It must be known before Ray is asked for anything.

        Raises:
            ClusterLost: it has been out of reach for too long. Ray must not be asked for anything any more.
        """
        since_look_s = time.monotonic() - self._looked_s
        if since_look_s < _LOOK_EVERY_S:
            return
        if since_look_s > _STOOD_STILL_S:
            self._missed_s = None
        reached = _is_reachable(self.address)
        self._looked_s = time.monotonic()
        if reached:
            self._missed_s = None
        elif self._missed_s is None:
            self._missed_s = self._looked_s
        elif self._looked_s - self._missed_s > self._limit_s:
            self.is_lost = True
            raise ClusterLost(
                f"the Ray cluster is lost: its head at {self.address} has been out of reach for "
                f"{self._looked_s - self._missed_s:.0f} s; {self._advice()}"
            )

    def wait_for_head(self) -> None:
        """Wait until the head is there: without it Ray would block, and end this process after a minute.

        Raises:
            ClusterLost: it has been out of reach for too long.
        """
        while not _is_reachable(self.address):
            self.check()
            time.sleep(0.1)

    def can_start_none(self) -> bool:
        """Return whether no worker can ever start: the one machine of a local Ray is gone."""
        import ray

        return self._is_local and not any(node["Alive"] for node in ray.nodes())

    def nothing_works(self, waited_s: float, n_workers: int, where: Placement) -> ClusterLost:
        """Return the error of a run that has no worker left and gets no other."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_cpus, n_gpus = (sum(int(node.get(what, 0)) for node in alive) for what in ("CPU", "GPU"))
        return ClusterLost(
            f"no worker is left, and none has started for {waited_s:.0f} s: {n_workers} wait for {where.threads} CPU and "
            f"{where.n_gpus} GPU each, and the Ray cluster has {len(alive)} live machines with {n_cpus} CPU and {n_gpus} "
            f"GPU; {self._advice()}"
        )

    def do_not_start(self, reason: str) -> ExecutorError:
        """Return the error of a run whose workers die while they start."""
        return ExecutorError(
            f"workers do not start: {reason}; {_STAYS}, and the same command goes on when that is mended"
        )

    def _advice(self) -> str:
        if self._is_local:
            return f"{_STAYS}, and the same command starts Ray anew and goes on from there"
        return (
            f"{_STAYS}: see `ray status --address {self.address}`, start the cluster or the machines that are missing, and "
            "the same command goes on from there"
        )


def one_line(error: Exception) -> str:
    """Return what an error of Ray says, in one line, without the actor's particulars."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # With an exception of our own code in it, the last line is that exception, and the others are where it was raised.
    return lines[-1] if "Traceback" in str(error) or is_raised_at_start(error) else lines[0]


def is_raised_at_start(error: Exception) -> bool:
    """Return whether an actor ended because its own constructor raised: no other machine would help."""
    return "creation task" in str(error)


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except ValueError:  # no such address: nothing can be said
        return True
    except OSError:
        return False
    return True
