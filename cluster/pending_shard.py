"""A shard whose generations come in one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from cluster.kept_generations import KeptGenerations, Origin
from cluster.shard_queue import Ticket
from designspace.axes import Generation, Request


class PendingShard:
    """A shard whose generations come in one by one, among those of others.

    Args:
        ticket: the attempt.
        requests: what is asked for, by problem.
        kept: where finished generations are noted.
        taken: rows that are there already, by problem id; they are not asked for.
    """

    def __init__(
        self,
        ticket: Ticket,
        requests: dict[str, list[Request]],
        kept: KeptGenerations,
        taken: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.ticket, self.kept, self.taken = ticket, kept, taken or {}
        self.n_made_tokens = 0  # of this attempt, all samples counted
        self._requests = {request.stream: request for asked in requests.values() for request in asked}
        self._streams = {name: [request.stream for request in asked] for name, asked in requests.items()}
        # When its first generation was begun, on the performance counter; one without any begins and ends now.
        self.started_s = math.inf if self._requests else time.perf_counter()
        self._found: dict[bytes, Generation] = {}
        self._origins: dict[bytes, Origin] = {}
        for generation, origin in kept.found(self._requests.values()):
            self._found[generation.stream], self._origins[generation.stream] = generation, origin
            self.started_s = time.perf_counter()  # of this attempt

    @property
    def missing(self) -> list[Request]:
        """What is still to be made, in the order of asking."""
        return [request for stream, request in self._requests.items() if stream not in self._found]

    def add(self, generation: Generation) -> None:
        """Take in a generation that has just ended."""
        self.started_s = min(self.started_s, time.perf_counter() - generation.wall_s)
        self._found[generation.stream] = generation
        self.n_made_tokens += generation.n_new_tokens
        self.kept.note(self._requests[generation.stream], generation)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return len(self._found) == len(self._requests)

    def samples(self, problem_id: str) -> list[Generation]:
        """Return a problem's generations, in the order of asking."""
        return [self._found[stream] for stream in self._streams[problem_id]]

    def origin(self, problem_id: str, own: Origin) -> Origin:
        """Return who made a problem's generations: `own` where this attempt did, else the first who did not."""
        return next((self._origins[s] for s in self._streams[problem_id] if s in self._origins), own)

    def counts(self) -> tuple[int, int, int, int]:
        """Return its rows, those that are done, the tokens of these, and the finished tokens of the others.

        Another thread may ask while generations come in.
        """
        found, n_done, n_done_tokens = self._found.copy(), 0, 0
        for streams in self._streams.values():
            if all(stream in found for stream in streams):
                n_done += 1
                n_done_tokens += sum(found[stream].n_new_tokens for stream in streams)
        n_tokens = sum(generation.n_new_tokens for generation in found.values())
        return len(self._streams), n_done, n_done_tokens, n_tokens - n_done_tokens
