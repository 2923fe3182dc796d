"""What a run asks before it begins a shard: whether another run on the same store is at it, or has done it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Literal, Protocol

from cluster.work import is_done
from designspace.store import ResultsStore
from designspace.store.layout import ShardKey
from designspace.store.leases import Leases
from sweeps.shards import Shard

LOOK_EVERY_S = 1.0

Claim = Literal["mine", "done", "elsewhere"]


class Claims(Protocol):
    """Shares shards out between runs."""

    def take(self, shard: Shard) -> Claim:
        """Claim a shard: it is this run's now, or was done by another, or another is at it."""

    def release(self, shard: Shard) -> None:
        """Give a shard up that is done, or that this run has given up."""

    def held_elsewhere(self, shards: Collection[Shard]) -> list[Shard] | None:
        """Return which of these shards other runs still hold; None if it is too soon to look again."""


class NoClaims:
    """Every shard is this run's: for a queue without a store."""

    def take(self, shard: Shard) -> Claim:
        """Return that it is this run's."""
        return "mine"

    def release(self, shard: Shard) -> None:
        """Do nothing."""

    def held_elsewhere(self, shards: Collection[Shard]) -> list[Shard] | None:
        """Return none."""
        return []


class LeasedClaims:
    """Claims by leases in the store.

    Args:
        store: where shards are committed.
        leases: those of this run, which must be in force.
        on_done: told of each shard that another run has done since this one looked what there is to do.
        say: told once that this run waits, and for whom.
    """

    def __init__(
        self,
        store: ResultsStore,
        leases: Leases,
        on_done: Callable[[Shard], None],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store, self._leases, self._on_done, self._say = store, leases, on_done, say
        self._mine: set[ShardKey] = set()
        self._look_again_s = 0.0
        self._said = False

    def take(self, shard: Shard) -> Claim:
        """Claim a shard, see `Claims`.

        Raises:
            StoreError: the leases cannot be written, or the store not be read.
        """
        key = _key(shard)
        if key in self._mine:  # it failed before, or was in a bundle that broke: whatever is stored of it is this run's
            return "mine"
        if not self._leases.take(key):
            return "elsewhere"
        # Asked only now: whoever held it until a moment ago committed it before giving it up.
        if is_done(self._store, shard):
            self._leases.release(key)
            self._on_done(shard)
            return "done"
        self._mine.add(key)
        return "mine"

    def release(self, shard: Shard) -> None:
        """Give a shard up."""
        self._mine.discard(_key(shard))
        self._leases.release(_key(shard))

    def held_elsewhere(self, shards: Collection[Shard]) -> list[Shard] | None:
        """Return which of these shards other runs hold, see `Claims`.

        Raises:
            StoreError: the leases cannot be read.
        """
        if time.monotonic() < self._look_again_s:
            return None
        self._look_again_s = time.monotonic() + LOOK_EVERY_S
        held = self._leases.of_others()
        found = [shard for shard in shards if _key(shard) in held]
        if found and not self._said:
            self._said = True
            holders = sorted({str(holder or "another run") for holder in held.values()})
            self._say(
                f"waiting for {len(found)} shards that another run is at ({', '.join(holders)}); "
                f"they are taken over if it ends without them"
            )
        return found


def _key(shard: Shard) -> ShardKey:
    return ShardKey(shard.cell.cell_id, shard.shard_id)
