"""Rows that are there already of the same cell with fewer problems: more problems of a task generate only what is new.

A cell's identity holds the hash of all its problems, so one with more problems is another cell. Its rows are those that the
earlier cell has for the same problems, to the bit, if nothing that fixes a row's numbers differs. Taken over is a row of a
cell

* whose identity is this one's but for the hash of the problems, which is that of the first of this cell's problems: so the
  earlier problems are these, word for word, and in this order;
* whose engine had room for the same lengths: with the same longest and shortest prompt, or a declared `prompt_room`;
* whose prompt is the same tokens, and that the code as it is now made.

Random streams go by the problem, and a row does not depend on its batch-mates. Nothing is taken over where texts are fed or
foreseen, nor in a results folder with a registration: there, every row belongs to the look that it was made under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from designspace.errors import DesignspaceError, StoreError
from designspace.models.skeleton import load_skeleton
from designspace.protocol.places import FOLDER
from designspace.store import ResultsStore
from designspace.tasks.problem import Problem, prefix_hashes
from sweeps.engine_lengths import engine_lengths
from sweeps.expand import Cell
from sweeps.identity import cell_id

Prompts = Mapping[str, Sequence[int]]  # token ids by problem id


class EarlierRows:
    """The rows of a store that other cells may take over; code: the state of the code that must have made them."""

    def __init__(self, store: ResultsStore, code: str) -> None:
        self._store, self._code = store, code
        self._prefixes: dict[tuple[Problem, ...], list[str]] = {}

    def known_here(self, cell: Cell, problems: Sequence[Problem]) -> frozenset[str]:
        """Return the problems whose rows a cell may take over, as far as that can be told without a worker."""
        try:
            return frozenset(self.of(cell, problems, partial(encoded_prompts, cell, problems)))
        except DesignspaceError:  # no tokenizer here; the worker has one
            return frozenset()

    def of(self, cell: Cell, problems: Sequence[Problem], prompts: Callable[[], Prompts]) -> dict[str, dict[str, Any]]:
        """Return the rows that a cell may take over, by problem id, as its own; empty if there are none.

        Args:
            cell: with the identity that a run gives it.
            problems: of its task, in order.
            prompts: returns the tokens of all of them, as the model reads them; asked only if there is an earlier cell.
        """
        if cell.needs_reference or (self._store.root / FOLDER).is_dir():
            return {}
        found: dict[str, dict[str, Any]] = {}
        lengths: list[int] = []
        for n_problems, earlier in self._earlier_cells(cell, problems):
            tokens = prompts()
            lengths = lengths or [len(tokens[problem.problem_id]) for problem in problems]
            if engine_lengths(cell.task, cell.generation, lengths[:n_problems]) != engine_lengths(
                cell.task, cell.generation, lengths
            ):
                continue
            for row in self._rows(earlier):
                same_prompt = row["prompt_token_ids"] == list(tokens[row["problem_id"]])
                if same_prompt and row["code_id"] == self._code and row["look_sha256"] is None:
                    found.setdefault(row["problem_id"], _as_own(row, cell))
        return found

    def _earlier_cells(self, cell: Cell, problems: Sequence[Problem]) -> Iterator[tuple[int, str]]:
        """Yield the cells that are this one with its first problems only: how many these are, and the id; most first."""
        alike = self._stored.get(_family(cell.identity), {})
        if not alike.keys() - {cell.identity["task"]["content"]}:
            return
        key = tuple(problems)
        if key not in self._prefixes:
            self._prefixes[key] = prefix_hashes(problems)
        for n_problems in range(len(problems) - 1, 0, -1):
            if (earlier := alike.get(self._prefixes[key][n_problems - 1])) is not None:
                yield n_problems, earlier

    @cached_property
    def _stored(self) -> dict[str, dict[str, str]]:
        """The cells of the store when it was first asked, by what they have in common, then by the hash of their problems."""
        found: dict[str, dict[str, str]] = {}
        for stored, identity in self._store.cells().items():
            if "content" in identity.get("task", {}):
                found.setdefault(_family(identity), {})[identity["task"]["content"]] = stored
        return found

    def _rows(self, earlier: str) -> Iterator[dict[str, Any]]:
        for key in self._store.shards_of(earlier):
            try:
                yield from self._store.sample_rows(key.cell_id, key.shard_id).to_pylist()
            except StoreError:
                continue  # damaged: what it held is generated again


def encoded_prompts(cell: Cell, problems: Sequence[Problem]) -> Prompts:
    """Return a cell's prompts as tokens, as a worker will read them; of the model, its tokenizer is read.

    Raises:
        DesignspaceError: it is not here, or cannot read a prompt.
    """
    skeleton, task, decoding = load_skeleton(cell.model), cell.task, cell.mechanism.decoding
    format_prompt = str if decoding is None else decoding.format_prompt
    return {problem.problem_id: skeleton.encode(format_prompt(problem.prompt), **task.framing) for problem in problems}


def _family(identity: Mapping[str, Any]) -> str:
    """Return what cells have in common that differ in nothing but their problems."""
    return cell_id({**identity, "task": {**identity["task"], "content": None}})


def _as_own(row: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Return a row as one of another cell, but for the ids that the store adds; names are labels and may have changed."""
    own = {name: value for name, value in row.items() if name not in ("cell_id", "shard_id")}
    labels = {"model": cell.model.name, "mechanism": cell.mechanism.name}
    return {**own, **labels, "taken_from": row["taken_from"] or row["cell_id"]}
