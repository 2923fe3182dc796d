"""Rows of the results store, arm by arm: one configuration each, whatever it is called.

An arm is a mechanism at a budget, for a model and a task split. Its name is a label: where one label stands for several
configurations (cells of one replicate), each of them is an arm of its own, so that their texts are never pooled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from designspace.errors import StoreError
from designspace.store.distinct_rows import distinct_rows, spread

Row = dict[str, Any]

COLUMNS = (
    "cell_id",
    "shard_id",
    "model",
    "task",
    "split",
    "budget",
    "mechanism",
    "budget_tokens",
    "budget_of",
    "problem_id",
    "replicate",
    "kind",
    "n_new_tokens",
    "finish_reason",
    "mean_cache_tokens",
    "steady_mean_cache_tokens",
    "peak_cache_tokens",
    "mean_cache_bytes",
    "mean_read_bytes",
    "mean_aux_bytes",
    "n_events",
    "shard_wall_s",
    "started_at",
    "worker",
    "grader_id",
    "extracted",
    "correct",
    "lenient_correct",
)  # what a summary is made of
NO_BUDGET = "none"
_LABEL = ("model", "task", "split", "budget", "mechanism")  # what an arm is called
# Of texts that were fed: which text, and what the arm thinks of its tokens; null where an arm wrote its own.
FORCED = ("forced_of", "forced_loss_over_full", "forced_agreement", "forced_first_disagreement")
# Read where they are there: for its length, to compare arms, for who made it, for what was asked, for what was held of it.
AT_HAND = (
    "cache_tokens_per_step",
    "text",
    "code_id",
    "prompt_token_ids",
    "prompt_survival_union",
    "prompt_survival_mean",
    *FORCED,
)
_FEWEST_DIGITS = 8  # of a cell's id, that tell configurations of one name apart


class PlaceKey(NamedTuple):
    """Where arms stand side by side: in one table and one figure."""

    model: str
    task: str
    split: str


class GroupKey(NamedTuple):
    """What arms must share to be compared."""

    model: str
    task: str
    split: str
    budget: str


class ArmKey(NamedTuple):
    """An arm; `configuration` is None where its name stands for one configuration, else the first digits of its cell."""

    model: str
    task: str
    split: str
    budget: str
    mechanism: str
    configuration: str | None = None

    @property
    def group(self) -> GroupKey:
        """What the arm shares with those it is compared with."""
        return GroupKey(*self[:4])

    @property
    def place(self) -> PlaceKey:
        """Where the arm stands beside others."""
        return PlaceKey(*self[:3])

    @property
    def name(self) -> str:
        """The mechanism's name, with the configuration where it is needed."""
        return self.mechanism if self.configuration is None else f"{self.mechanism} [{self.configuration}]"


Arms = dict[ArmKey, list[Row]]


def arm_rows(table: pa.Table) -> Arms:
    """Return the rows of each arm, with the number of their decode steps, and of each text its digest where it is at hand.

    Raises:
        StoreError: a column is missing.
    """
    rows = _rows(table)
    apart = _apart(table)
    arms: Arms = {}
    for row in rows:
        label = ArmKey(row["model"], row["task"], row["split"], row["budget"], row["mechanism"])
        digits = apart.get(label)
        key = label if digits is None else label._replace(configuration=row["cell_id"][:digits])
        arms.setdefault(key, []).append(row)
    return arms


def named_apart(table: pa.Table) -> pa.Table:
    """Return rows under the names that their arms have: with digits of the cell where one name stands for several arms."""
    apart = _apart(table)
    if not apart:
        return table
    found, which = distinct_rows(table, (*_LABEL, "cell_id"))
    names = []
    for *label, cell_id in found:
        key = ArmKey(*label)
        digits = apart.get(key)
        names.append(key.name if digits is None else key._replace(configuration=cell_id[:digits]).name)
    place = table.schema.get_field_index("mechanism")
    field = table.schema.field(place)
    return table.set_column(place, field, spread(names, which, field.type))


def _rows(table: pa.Table) -> list[Row]:
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise StoreError(f"the report needs the column {missing[0]!r}, which the table lacks")
    found = table.select(COLUMNS)
    if "cache_tokens_per_step" in table.column_names:
        steps = pc.list_value_length(table["cache_tokens_per_step"])
    else:  # the last token of a generation is never fed back, so this is one step more than happened
        steps = table["n_new_tokens"]
    found = found.append_column("n_steps", steps)
    if "text" in table.column_names:
        found = found.append_column("text_digest", pa.array(_digests(table["text"]), type=pa.binary()))
    if "prompt_token_ids" in table.column_names:
        digests = _digests(table["prompt_token_ids"])
        found = found.append_column("prompt_digest", pa.array(digests, type=pa.binary()))
    for name in ("code_id", "prompt_survival_union", "prompt_survival_mean", *FORCED):
        if name in table.column_names:
            found = found.append_column(name, table[name])
    columns = [_values(found[name]) for name in found.column_names]
    return [dict(zip(found.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as Python values. Equal labels are one object: a million rows would have a million copies of each."""
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    found = []
    for chunk in column.chunks:
        labels = [*chunk.dictionary.to_pylist(), None]
        found += [labels[index] for index in chunk.indices.fill_null(len(labels) - 1).to_pylist()]
    return found


def _digests(texts: Iterable[pa.Scalar]) -> list[bytes | None]:
    """Return a digest of each text or prompt, None of null: those of a large study would fill the memory once more."""
    return [
        hashlib.blake2b(str(text.as_py()).encode(), digest_size=16).digest() if text.is_valid else None
        for text in texts
    ]


def _apart(table: pa.Table) -> dict[ArmKey, int]:
    """Return the names that stand for several configurations, and how many digits of their cells tell these apart."""
    cells: dict[ArmKey, dict[int, set[str]]] = {}
    for *label, replicate, cell_id in distinct_rows(table, (*_LABEL, "replicate", "cell_id"))[0]:
        cells.setdefault(ArmKey(*label), {}).setdefault(replicate, set()).add(cell_id)
    return {
        label: _digits(sorted(set().union(*by_replicate.values())))
        for label, by_replicate in cells.items()
        if any(len(ids) > 1 for ids in by_replicate.values())
    }


def _digits(cell_ids: Sequence[str]) -> int:
    digits = _FEWEST_DIGITS
    while len({cell_id[:digits] for cell_id in cell_ids}) < len(cell_ids):
        digits += 1
    return digits
