"""How far a run is, kept where other processes read it: what `designspace status` shows of a run that is on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cluster.pace import Pace
from cluster.shard_queue import Event

if TYPE_CHECKING:
    from designspace.store.leases import Leases

WRITE_EVERY_S = 5.0


class RunState:
    """Follows a run, and says every few seconds in the store how far it is.

    leases: of the run; None before it holds any.
    """

    def __init__(self, n_shards: int, n_rows: int) -> None:
        self.leases: Leases | None = None
        self._pace = Pace(n_shards, n_rows)
        self._written_s = -WRITE_EVERY_S

    def on_event(self, event: Event) -> None:
        """Count an event, and write the state down if it is time to."""
        self._pace.note(event)
        if self.leases is not None and time.monotonic() - self._written_s >= WRITE_EVERY_S:
            self._written_s = time.monotonic()
            self.leases.say(self._state())

    def _state(self) -> dict[str, object]:
        pace, live = self._pace, self._pace.live
        return {
            "n_shards": pace.n_shards,
            "n_shards_done": pace.n_shards_done,
            "n_rows": pace.n_rows,
            "n_rows_done": pace.n_rows_done,
            "n_tokens": pace.n_tokens,
            "tokens_per_s": pace.tokens_per_s,
            "left_s": pace.left_s,
            "left_is_bound": pace.left_is_bound,
            "at_work": {
                "n_rows": sum(said.n_rows for said in live),
                "n_rows_done": sum(said.n_rows_done for said in live),
                "n_tokens": sum(said.n_made_tokens for said in live),
            },
        }
