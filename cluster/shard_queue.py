"""Which shards next, which again, which never again: the bookkeeping that both executors share."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cluster.claims import Claims, NoClaims
from sweeps.shards import engine_key

if TYPE_CHECKING:
    from cluster.live_progress import LiveProgress
    from designspace.models.model_spec import ModelSpec
    from sweeps.shards import Shard

MAX_RAISED = 2  # our code failing twice on one shard is no accident
MAX_LOST = 3  # a shard that takes its worker down with it this often is the cause, not the victim
# A bundle fills the engine's rows so often at most. Only while the last rows of a bundle run out are any idle, so more
# would gain little; and what a bundle that breaks has not committed is made again, shard by shard.
MAX_FILLS = 32


@dataclass(frozen=True)
class ShardSummary:
    """What a worker reports of a shard it has committed; the rows themselves are in the store.

    Attributes:
        n_made_tokens: generated in this attempt, those of samples that are not returned included; what an earlier attempt had
            finished is not.
        generated: False where the samples were stored already and only grades were missing.
        wall_s: from the start of its first generation to its grades; shards that share an engine overlap.
    """

    n_rows: int
    n_new_tokens: int
    n_made_tokens: int
    n_correct: int
    wall_s: float
    generated: bool
    worker: str


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as plain data: exceptions do not always survive the way between processes.

    Attributes:
        kind: `raised` = our code raised; `lost` = the process or machine under it went away.
        stops_run: the store itself cannot be written, so going on would only burn work.
    """

    kind: Literal["raised", "lost"]
    error: str
    message: str
    worker: str = ""
    traceback: str = ""
    stops_run: bool = False

    def document(self) -> dict[str, Any]:
        """Return the failure as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True)
class Ticket:
    """One attempt at a shard, counted from 1 over all runs."""

    shard: Shard
    attempt: int


Bundle = tuple[Ticket, ...]  # shards that go through one engine together


class Settled(NamedTuple):
    """A shard that a worker is through with: committed, or an exception that is this shard's alone."""

    ticket: Ticket
    result: ShardSummary | Exception


@dataclass(frozen=True)
class Event:
    """Something that happened to a shard; `quarantined` only together with `failure`.

    `working`: the worker of a bundle that begins with `ticket` has answered how far it is.
    `elsewhere`: another run has done the shard, since this one looked what there was to do; its ticket has attempt 0.
    `returned` happens to a bundle: it broke because of `failure`, and `n_shards` of its shards, `ticket`'s being the first,
    are going to be tried one by one. None of them has failed by that.
    """

    kind: Literal["started", "working", "done", "failed", "returned", "elsewhere"]
    ticket: Ticket
    worker: str = ""
    summary: ShardSummary | None = None
    failure: Failure | None = None
    quarantined: bool = False
    n_shards: int = 1
    live: LiveProgress | None = None


OnEvent = Callable[[Event], None]


class ShardQueue:
    """Pending shards by model, with the count of failures of each.

    Args:
        shards: what is to be done, in order of preference.
        earlier_attempts: failed attempts of earlier runs by (cell id, shard id); they number attempts but do not bring
            a quarantine nearer, because the user may have mended the cause.
        claims: shares the shards with other runs on the same store.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        earlier_attempts: Mapping[tuple[str, str], int] | None = None,
        claims: Claims | None = None,
    ) -> None:
        self._waiting: dict[ModelSpec, deque[Shard]] = {}
        for shard in shards:
            self._waiting.setdefault(shard.cell.model, deque()).append(shard)
        self._earlier = dict(earlier_attempts or {})
        self._failures: Counter[tuple[tuple[str, str], str]] = Counter()
        self._alone: set[tuple[str, str]] = set()
        self._claims = claims or NoClaims()
        self._elsewhere: list[Shard] = []  # another run was at them when this one last looked

    def __len__(self) -> int:
        """Return the number of shards waiting, also for another run to end."""
        return sum(len(shards) for shards in self._waiting.values()) + len(self._elsewhere)

    @property
    def n_rows(self) -> int:
        """Generations that the waiting shards ask for."""
        waiting = [shard for shards in self._waiting.values() for shard in shards]
        return sum(len(shard.problem_ids) for shard in (*waiting, *self._elsewhere))

    def models(self) -> list[ModelSpec]:
        """Return the models with shards waiting, in order."""
        return [model for model, shards in self._waiting.items() if shards]

    def take(self, held: ModelSpec | None, held_by_others: Collection[ModelSpec | None] = ()) -> Bundle:
        """Return the next attempts for a worker, which share an engine; empty when there is nothing to begin at present.

        Empty does not mean that the queue is: what is left of it may be what another run is at. Ask again in a while.

        A worker keeps to the model it holds, since loading another costs more than any order of shards gains; one that
        must load picks the model that fewest others hold. It takes shards as they stand in the queue, but no more than its
        even share of the model's: the rest is for those others who hold this model, or none that still has work. A shard
        that has failed in this run, or was in a bundle that broke, comes alone.

        Args:
            held: the model that the worker has loaded.
            held_by_others: those of all other workers, None for each that has none.
        """
        while waiting := self.models() or self._models_given_up_elsewhere():
            if bundle := self._take_of(waiting, held, held_by_others):
                return bundle
        return ()

    def _take_of(
        self, waiting: Collection[ModelSpec], held: ModelSpec | None, held_by_others: Collection[ModelSpec | None]
    ) -> Bundle:
        others = Counter(held_by_others)
        model = held if held is not None and held in waiting else min(waiting, key=lambda m: others[m])
        n_able = 1 + sum(n for other, n in others.items() if other == model or other not in waiting)
        shards = self._waiting[model]
        bundle = self._next_bundle(shards, at_most=-(-len(shards) // n_able))
        return tuple(Ticket(shard, self._attempt(shard_key(shard))) for shard in bundle)

    def _next_bundle(self, shards: deque[Shard], at_most: int) -> list[Shard]:
        bundle: list[Shard] = []
        while not bundle and shards:
            bundle += self._claimed(shards.popleft())
        if not bundle:
            return []
        first = bundle[0].cell
        key, room = engine_key(first), MAX_FILLS * first.generation.rows - len(bundle[0].problem_ids)
        while shards and len(bundle) < at_most and len(shards[0].problem_ids) <= room:
            if {shard_key(bundle[0]), shard_key(shards[0])} & self._alone or engine_key(shards[0].cell) != key:
                break
            claimed = self._claimed(shards.popleft())
            room -= sum(len(shard.problem_ids) for shard in claimed)
            bundle += claimed
        return bundle

    def _claimed(self, shard: Shard) -> list[Shard]:
        """Return a shard in a list if it is this run's to do, else an empty one."""
        claim = self._claims.take(shard)
        if claim == "elsewhere":
            self._elsewhere.append(shard)
        return [shard] if claim == "mine" else []

    def _models_given_up_elsewhere(self) -> list[ModelSpec]:
        """Let those shards wait that no other run is at any more, and return the models with shards waiting."""
        held = self._claims.held_elsewhere(self._elsewhere) if self._elsewhere else None
        if held is not None:
            still = {shard_key(shard) for shard in held}
            for shard in self._elsewhere:
                if shard_key(shard) not in still:
                    self._waiting.setdefault(shard.cell.model, deque()).append(shard)
            self._elsewhere = held
        return self.models()

    def done(self, ticket: Ticket) -> None:
        """Note that a shard is done."""
        self._claims.release(ticket.shard)

    def fail(self, ticket: Ticket, failure: Failure) -> bool:
        """Note a failed attempt; return True if the shard is quarantined, False if it waits for another attempt."""
        key = shard_key(ticket.shard)
        self._failures[key, failure.kind] += 1
        if self._failures[key, failure.kind] >= (MAX_RAISED if failure.kind == "raised" else MAX_LOST):
            self._claims.release(ticket.shard)
            return True
        self.give_back(ticket)
        return False

    def give_back(self, ticket: Ticket) -> None:
        """Let a shard wait again, to be tried alone: so what is wrong with it, if anything, shows without its mates."""
        self._alone.add(shard_key(ticket.shard))
        self._waiting.setdefault(ticket.shard.cell.model, deque()).append(ticket.shard)

    def _attempt(self, key: tuple[str, str]) -> int:
        return 1 + self._earlier.get(key, 0) + self._failures[key, "raised"] + self._failures[key, "lost"]


def shard_key(shard: Shard) -> tuple[str, str]:
    """Return what names a shard in the store."""
    return shard.cell.cell_id, shard.shard_id
