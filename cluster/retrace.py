"""Make one stored text again and record what its cache held: one declaration always gives the same tokens."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.stored_text import CHOICES, cell_of, named_text, stored_text
from cluster.worker import Worker
from designspace.engine import Engine
from designspace.engine.looked_up import looked_up_after
from designspace.engine.retention import NEVER_HELD, STILL_HELD, RetentionRecord, RetentionRecorder
from designspace.errors import ModelError
from designspace.models.loading import LoadedModel
from designspace.store import ResultsStore
from sweeps.shards import Shard, shard_id

_BEFORE = 8  # tokens that are decoded with a token, so that its own text is what it adds to theirs


@dataclass(frozen=True)
class Lookup:
    """A token that a head had evicted when the full cache would have attended to it.

    Attributes:
        layer, head: among the layers that own a cache, and their KV heads. position: of the token.
        step: when it was evicted. by: position of the query that would have attended to it most.
        weight: its attention with the full cache, the largest of the query heads that share the KV head.
    """

    layer: int
    head: int
    position: int
    step: int
    by: int
    weight: float


@dataclass(frozen=True)
class TracedText:
    """One stored text and what its cache held.

    Attributes:
        labels: of its cell, with problem_id, replicate, and whether it was right (None where it is not graded).
        record: what every head held at every step.
        tokens: the text of each token of prompt and answer.
        layers: of the model, those that own a cache.
        least_weight: smallest attention that counts as looking a token up.
        lookups: those with such a weight, the largest first.
        notes: what was noted of the look at this text, if it is held out.
    """

    labels: Mapping[str, Any]
    record: RetentionRecord
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    least_weight: float
    lookups: tuple[Lookup, ...]
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return plain JSON data: what the page of a text is drawn from.

        `evicted_at` is base64 of int32, little-endian, of `shape` [L,H_kv,T]: see `RetentionRecord.evicted_at`.
        """
        evicted_at = self.record.evicted_at()
        labels = self.labels
        verdict = {None: "not graded", True: "right", False: "wrong"}[labels["correct"]]
        place = f"{labels['model']}, {labels['task']} {labels['split']}, budget {labels['budget']}"
        return {
            "name": labels["mechanism"],
            "about": f"{verdict} · {place}, replicate {labels['replicate']}, problem {labels['problem_id']}",
            "labels": dict(labels),
            "n_prompt_tokens": self.record.n_prompt_tokens,
            "n_steps": len(self.record.newest),
            "tokens": list(self.tokens),
            "layers": list(self.layers),
            "shape": list(evicted_at.shape),
            "evicted_at": b64encode(evicted_at.astype("<i4").tobytes()).decode(),
            "least_weight": self.least_weight,
            "lookups": [asdict(found) for found in self.lookups],
        }


def retrace(
    results: str | Path,
    problem_id: str,
    mechanism: str,
    *,
    choice: Mapping[str, Any] | None = None,
    sweep: str | Path | None = None,
    least_weight: float = 0.1,
) -> TracedText:
    """Run one stored text again, check that it is the same, and return it with its record.

    Args:
        results: the results folder.
        problem_id: which problem.
        mechanism: which arm, by its name.
        choice: values of `study`, `model`, `task`, `split`, `budget`, `replicate` that single out one text of several.
        sweep: the sweep file; None takes its text from the results, where relative paths start at the working folder.
        least_weight: smallest attention that counts as looking a token up.

    Raises:
        UnknownName: no such problem or arm.
        DeclarationError: several texts answer to the names; the message says what tells them apart.
        StoreError: the cell of the text is not in the sweep.
        ModelError: another text came out: the model, the libraries or the machine are not those of the stored one.
    """
    store = ResultsStore.open(results, create=False)
    named = named_text(store, problem_id, mechanism, choice or {})
    cell = cell_of(store, named, sweep)
    row, notes = stored_text(store, named)
    n_threads = re.search(r"(\d+) threads?$", row["worker"])
    worker = Worker(store.root, int(n_threads[1]) if n_threads else 1)
    try:
        shard = Shard(cell, 0, (problem_id,), shard_id(cell.cell_id, (problem_id,)))
        engine, requests = worker.watched_engine(shard)
        engine.hook = recorder = RetentionRecorder(engine.cache)
        made = {generation.stream: generation for generation in engine.generate(requests)}
        wanted = tuple(row["token_ids"])
        same = [stream for stream, generation in made.items() if generation.token_ids == wanted]
        if not same:
            raise ModelError(_difference(row, [generation.token_ids for generation in made.values()]))
        record = recorder.records[same[0]]
        ids = (*row["prompt_token_ids"], *wanted)
        return TracedText(
            {**{name: row[name] for name in (*CHOICES, "mechanism", "problem_id")}, "correct": row["correct"]},
            record,
            token_texts(engine.loaded, ids),
            tuple(layer for layer in range(len(engine.cache.owners)) if engine.cache.owns(layer)),
            least_weight,
            lookups(engine, record, ids, least_weight),
            notes,
        )
    finally:
        worker.close()


def token_texts(loaded: LoadedModel, ids: Sequence[int]) -> tuple[str, ...]:
    """Return what each token adds to the text before it."""

    def text(begin: int, end: int) -> str:
        decoded: str = loaded.tokenizer.decode(list(ids[begin:end]), clean_up_tokenization_spaces=False)
        return decoded

    found = []
    for end in range(1, len(ids) + 1):
        begin = max(0, end - 1 - _BEFORE)
        before, after = text(begin, end - 1), text(begin, end)
        found.append(after.removeprefix(before) if after.startswith(before) else text(end - 1, end))
    return tuple(found)


def lookups(engine: Engine, record: RetentionRecord, ids: tuple[int, ...], least_weight: float) -> tuple[Lookup, ...]:
    """Return the tokens that the full cache, on the same text, attends to after a head has evicted them."""
    fed = ids[: record.n_positions]  # the last token of a text is chosen and never fed
    evicted = record.evicted_at()
    first = first_queries(evicted, record.n_prompt_tokens, len(fed))
    found = looked_up_after(engine.loaded, engine.cache.geometry, engine.prefill.owners, fed, torch.from_numpy(first))
    places = (found.weights >= least_weight).nonzero().tolist()
    made = [
        Lookup(
            layer=layer,
            head=head,
            position=position,
            step=int(evicted[layer, head, position]),
            by=int(found.by[layer, head, position]),
            weight=float(found.weights[layer, head, position]),
        )
        for layer, head, position in places
    ]
    return tuple(sorted(made, key=lambda one: (-one.weight, one.layer, one.head, one.position)))


def first_queries(evicted_at: NDArray[np.int32], n_prompt_tokens: int, n_tokens: int) -> NDArray[np.int64]:
    """Return the position of the first query that lacks each token, n_tokens where none does.

    The prompt's own queries attend to all of it: its cut comes after them.
    """
    step = evicted_at.astype(np.int64)
    never = (evicted_at == STILL_HELD) | (evicted_at == NEVER_HELD)
    return np.where(never, n_tokens, n_prompt_tokens + np.maximum(step, 1) - 1)


def _difference(row: Mapping[str, Any], made: Sequence[tuple[int, ...]]) -> str:
    wanted, found = row["token_ids"], made[0]
    place = next(
        (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found))
    )
    return (
        f"the text came out otherwise from token {place} on, so its record would not be that of the stored text: the model's "
        "libraries, the kernels or the processor are others than those that made it"
    )
