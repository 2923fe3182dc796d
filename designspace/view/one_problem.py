"""One problem as the browser shows it: the prompt, every arm's text, where it leaves another, and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc

from designspace.query.problem_texts import first_difference
from designspace.report.page_problems import LEDGER
from designspace.store import ResultsStore
from designspace.view.index import Filter, Index


def problem_page(
    store: ResultsStore, index: Index, wanted: Filter, problem_id: str, against: str
) -> dict[str, Any] | None:
    """Return a problem with every arm's text at a place; None where there is no text of it.

    against: name of the arm that the others are held against; where it has no text, nothing is marked.
    """
    rows = [_stored(store, known) for known in index.texts_of(wanted, problem_id)]
    if not rows:
        return None
    reference = next((row for row in rows if row["mechanism"] == against), None)
    return {
        "problem_id": problem_id,
        "kind": rows[0]["kind"],
        "prompt": rows[0]["prompt"],
        "answer": next((row["answer"] for row in rows if row["answer"] is not None), None),
        "against": None if reference is None else against,
        "texts": [_text(row, reference) for row in rows],
    }


def _stored(store: ResultsStore, known: dict[str, Any]) -> dict[str, Any]:
    """Return the stored row of a text, with what the index knows of it: its grade, and the name of its arm."""
    table = store.sample_rows(known["cell_id"], known["shard_id"])
    fits = pc.and_(pc.equal(table["problem_id"], known["problem_id"]), pc.equal(table["replicate"], known["replicate"]))
    row: dict[str, Any] = table.filter(fits).to_pylist()[0]
    return {**row, **known}


def _text(row: dict[str, Any], reference: dict[str, Any] | None) -> dict[str, Any]:
    is_reference = reference is not None and reference["mechanism"] == row["mechanism"]
    leaves_at = leaves_at_token = None
    if reference is not None and not is_reference:
        leaves_at = first_difference(row["text"], reference["text"])
        leaves_at_token = _token_difference(row["token_ids"], reference["token_ids"])
    return {
        "mechanism": row["mechanism"],
        "budget": row["budget"],
        "correct": row["correct"],
        "extracted": row["extracted"],
        "text": row["text"],
        "prompt_text": row["prompt_text"],
        "leaves_at": leaves_at,
        "leaves_at_token": leaves_at_token,
        "ledger": {name: row[name] for name in LEDGER},
        "cache_tokens_per_step": row["cache_tokens_per_step"],
    }


def _token_difference(ids: Sequence[int] | None, others: Sequence[int] | None) -> int | None:
    return None if ids is None or others is None else first_difference(ids, others)
