"""Prompts of one cell are the same tokens whenever its shards are made.

An identity holds the hash of every file that a prompt is made from, but not all that renders it: a chat template may write
today's date, and other versions of the libraries may read the same template otherwise. So the tokens themselves are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from designspace.errors import ModelError, StoreError
from designspace.store import ResultsStore
from designspace.store.layout import ShardKey


def check_prompts(store: ResultsStore, cell_id: str, label: str, prompts: Mapping[str, Sequence[int]]) -> None:
    """Check that prompts are the tokens which a stored shard of the same cell was made from; one shard stands for all.

    Args:
        store: the results.
        cell_id: the cell that is to be gone on with.
        label: names it in the message.
        prompts: token ids by problem id, as they are rendered now.

    Raises:
        ModelError: a prompt is another one now; the message says which, and where it begins to differ.
    """
    for key in store.shards_of(cell_id):
        before = _stored_prompts(store, key)
        if not before:
            continue
        for problem_id, ids in before.items():
            now = prompts.get(problem_id, ())
            if list(now) != ids:
                raise ModelError(_difference(label, problem_id, ids, now))
        return


def _stored_prompts(store: ResultsStore, key: ShardKey) -> dict[str, list[int]]:
    """Return the prompts of a shard; none where it is damaged, or of a version that did not store them."""
    try:
        rows = store.sample_rows(key.cell_id, key.shard_id).select(["problem_id", "prompt_token_ids"]).to_pylist()
    except StoreError:
        return {}
    return {row["problem_id"]: row["prompt_token_ids"] for row in rows if row["prompt_token_ids"] is not None}


def _difference(label: str, problem_id: str, before: Sequence[int], now: Sequence[int]) -> str:
    place = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    return (
        f"{label}: the prompt of {problem_id!r} must be the tokens that the stored texts of this cell were made from, but "
        f"it differs from token {place} on ({len(before)} tokens then, {len(now)} now): the chat template depends on the "
        "day or on the versions of transformers and tokenizers. Use the versions of the stored results and a template that "
        "writes no date, or another results folder (--results)"
    )
