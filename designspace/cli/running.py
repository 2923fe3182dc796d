"""Whether a run is on at a study, at which shards it is, and when it will be done: from the store alone.

Who is at work is told by the leases of the store, how fast by when its newest shards were committed, and how far within the
shards that are not whole yet by what each run writes beside its leases every few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from designspace.store import ResultsStore, ShardKey

_NEWEST = 40  # commits that the rate is taken from
_FEWEST = 3
_NAMED = 6


def running(
    store: ResultsStore, stored: Collection[ShardKey], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return what live runs are at among these cells, None where no run is on.

    `left_s` is what a run that is alone says of itself; of several it follows from the shards that were committed last. It is
    None where too few are, and no run has said yet. `at_work` has what each run says.
    """
    labels, leases = {cell["cell_id"]: cell for cell in cells}, store.leases()
    held = {key: holder for key, holder in leases.of_others().items() if key.cell_id in labels}
    if not held:
        return None
    holders = {holder.run: str(holder) for holder in held.values() if holder is not None}
    said = [
        {"run": name, **found} for run, name in sorted(holders.items()) if (found := leases.said_by(run)) is not None
    ]
    n_left = sum(cell["n_shards"] or 0 for cell in cells) - sum(key.cell_id in labels for key in stored)
    per_s = _per_s(store, [key for key in stored if key.cell_id in labels])
    return {
        "runs": sorted({str(holder) for holder in held.values() if holder is not None}),
        "n_shards": len(held),
        "arms": dict(sorted(Counter(_arm(labels[key.cell_id]) for key in held).items())),
        "shards_per_minute": None if per_s is None else 60 * per_s,
        "at_work": said,
        **_left(said, n_runs=len(holders), by_shards_s=None if per_s is None else n_left / per_s),
    }


def _left(said: Sequence[Mapping[str, Any]], *, n_runs: int, by_shards_s: float | None) -> dict[str, Any]:
    if n_runs == len(said) == 1:
        (one,) = said
        if one.get("left_s") is not None:
            return {"left_s": one["left_s"], "left_is_bound": bool(one.get("left_is_bound"))}
    return {"left_s": by_shards_s, "left_is_bound": False}


def running_text(found: Mapping[str, Any] | None) -> str:
    """Return it in a line or two."""
    if found is None:
        return "  no run is on"
    arms = [f"{name}{f' x{n}' if n > 1 else ''}" for name, n in found["arms"].items()]
    more = f" and {len(arms) - _NAMED} more" if len(arms) > _NAMED else ""
    shards = found["shards_per_minute"]
    speed = "" if shards is None else f"{shards:.1f} shards a minute, "
    left = "too few shards are done to say when it ends"
    if found["left_s"] is not None:
        left = f"{'at most' if found['left_is_bound'] else 'about'} {_minutes(found['left_s'])} left"
    lines = [f"  running: {', '.join(found['runs']) or 'a run'}; {speed}{left}"]
    lines += [_said_text(one) for one in found["at_work"]]
    return "\n".join([*lines, f"  at {', '.join(arms[:_NAMED])}{more}"])


def _said_text(said: Mapping[str, Any]) -> str:
    """Return what a run says of itself; of the shards at work, their texts and tokens so far."""
    now = said["at_work"]
    return (
        f"  {said['n_rows_done']:,}/{said['n_rows']:,} texts, {said['n_tokens']:,} tokens, {said['tokens_per_s']:,.0f} "
        f"tokens/s; of the shards at work {now['n_rows_done']:,}/{now['n_rows']:,} texts, {now['n_tokens']:,} tokens"
    )


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _arm(cell: Mapping[str, Any]) -> str:
    return f"{cell['mechanism']} at {cell['budget']} on {cell['model']}"


def _per_s(store: ResultsStore, keys: Collection[ShardKey]) -> float | None:
    """Return the shards per second over the newest commits, None where there are too few.

    Runs commit in bursts, so the first of them begins the time and is not counted.
    """
    times_s = sorted(store.committed_at_s(key) for key in keys)[-_NEWEST:]
    if len(times_s) < _FEWEST or times_s[-1] <= times_s[0]:
        return None
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])
