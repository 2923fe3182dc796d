"""A shard whose generations come in one by one."""

from __future__ import annotations

import math
import time

from cluster.shard_queue import Ticket
from designspace.axes import Generation, Request


class PendingShard:
    """A shard whose generations come in one by one, among those of others."""

    def __init__(self, ticket: Ticket, requests: dict[str, list[Request]]) -> None:
        self.ticket = ticket
        self.started_s = math.inf  # when its first generation was begun, on the performance counter
        self._streams = {name: [request.stream for request in asked] for name, asked in requests.items()}
        self._n_missing = sum(map(len, self._streams.values()))
        self._found: dict[bytes, Generation] = {}

    def add(self, generation: Generation) -> None:
        """Take in a generation that has just ended."""
        self.started_s = min(self.started_s, time.perf_counter() - generation.wall_s)
        self._found[generation.stream] = generation
        self._n_missing -= 1

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self._n_missing == 0

    def samples(self, problem_id: str) -> list[Generation]:
        """Return a problem's generations, in the order of asking."""
        return [self._found[stream] for stream in self._streams[problem_id]]
