"""The executor over Ray: connects, decides how many actors there are, and lets the loop run."""

from __future__ import annotations

from collections.abc import Callable

from cluster.attempt import WorkerFactory
from cluster.interrupt import interruptible
from cluster.limits import Limits
from cluster.ray_health import ClusterHealth
from cluster.ray_loop import Loop
from cluster.ray_session import placement, ray_session, resolved_address
from cluster.shard_queue import OnEvent, ShardQueue


class RayExecutor:
    """Runs shards on Ray actors: one per GPU, or `workers` on CPUs.

    Args:
        address: a running cluster; None = `RAY_ADDRESS`, else a local Ray for the duration of the run.
        workers: number of actors; None = one per GPU, or on CPUs one per core as far as there are shards.
        say: told of what takes long.
        limits: how long to wait for what; None = those of the environment, see `Limits`.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        say: Callable[[str], None] = lambda text: None,
        limits: Limits | None = None,
    ) -> None:
        self.address, self.workers, self.say = address, workers, say
        self.limits = limits or Limits.from_environment()

    def run(self, queue: ShardQueue, make_worker: WorkerFactory, on_event: OnEvent) -> None:
        """Empty the queue.

        Raises:
            ExecutorError: no cluster, or one that is lost; no worker that starts; or a store that cannot be written.
            Interrupted: Ctrl-C or SIGTERM.
        """
        is_local, limits = resolved_address(self.address) == "local", self.limits
        with (
            ray_session(self.address, self._cores_wanted(), self.say, limits),
            interruptible(at_once=False) as stop,
        ):
            where = placement(self.workers, len(queue), is_local=is_local, say=self.say, limits=limits)
            health = ClusterHealth(limits, is_local=is_local)
            loop = Loop(queue, make_worker, on_event, where, health, limits, stop, self.say)
            try:
                loop.run()
            finally:
                loop.close()

    def _cores_wanted(self) -> int | None:
        """More workers than cores is the user's choice, but Ray would leave those beyond the cores pending for ever."""
        from cluster.cores import usable_cores

        return max(self.workers, usable_cores()) if self.workers else None
