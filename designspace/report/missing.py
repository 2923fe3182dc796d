"""What a study still lacks, said before anything else: its numbers are not final, and its arms may be of other problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from designspace.report.declared import LABELS, Declared
from designspace.store import ShardKey

_NAMED = 6  # arms that are named in one sentence


class _Label(NamedTuple):
    model: str
    task: str
    split: str
    mechanism: str
    budget: str


@dataclass(frozen=True)
class ArmProgress:
    """How much of an arm there is; the numbers of the whole are None where they are not known here."""

    model: str
    task: str
    split: str
    mechanism: str
    budget: str
    n_shards_done: int
    n_shards: int | None
    n_problems_done: int
    n_problems: int | None
    n_texts_done: int
    n_texts: int | None

    @property
    def complete(self) -> bool:
        """Whether every shard and every text is there."""
        return self.n_shards_done == self.n_shards and self.n_texts in (None, self.n_texts_done)


@dataclass(frozen=True)
class Progress:
    """How much of a study there is, arm by arm in the order of its declaration."""

    arms: tuple[ArmProgress, ...]

    @property
    def complete(self) -> bool:
        """Whether every arm is."""
        return all(arm.complete for arm in self.arms)

    def document(self) -> dict[str, Any]:
        """Return the numbers as plain JSON data."""
        return {
            "complete": self.complete,
            "n_shards_done": sum(arm.n_shards_done for arm in self.arms),
            "n_shards": _total(arm.n_shards for arm in self.arms),
            "n_arms_with_texts": sum(arm.n_texts_done > 0 for arm in self.arms),
            "n_arms": len(self.arms),
            "n_texts_done": sum(arm.n_texts_done for arm in self.arms),
            "n_texts": _total(arm.n_texts for arm in self.arms),
        }


def progress_of(declared: Declared, n_shards_done: Mapping[str, int], table: pa.Table) -> Progress:
    """Return how far a study is.

    Args:
        declared: the study.
        n_shards_done: stored shards by cell id.
        table: rows of its cells, with `cell_id` and `problem_id`.
    """
    problems: dict[str, list[str]] = {}
    for cell_id, problem in zip(table["cell_id"].to_pylist(), table["problem_id"].to_pylist(), strict=True):
        problems.setdefault(cell_id, []).append(problem)
    arms: dict[_Label, list[Mapping[str, Any]]] = {}
    for cell in declared.cells:
        arms.setdefault(_Label(*(cell[name] for name in LABELS)), []).append(cell)
    return Progress(tuple(_arm(label, cells, n_shards_done, problems) for label, cells in arms.items()))


def missing_sentences(progress: Progress) -> list[str]:
    """Return what is missing in whole sentences: shards, arms without texts, problems per arm; empty where nothing is."""
    return [] if progress.complete else list(_sentences(progress))


def _arm(
    label: _Label,
    cells: Sequence[Mapping[str, Any]],
    n_shards_done: Mapping[str, int],
    problems: Mapping[str, Sequence[str]],
) -> ArmProgress:
    ids = [cell["cell_id"] for cell in cells]
    sizes = [cell["n_problems"] for cell in cells]
    return ArmProgress(
        *label,
        n_shards_done=sum(n_shards_done.get(cell_id, 0) for cell_id in ids),
        n_shards=_total(cell["n_shards"] for cell in cells),
        n_problems_done=len({problem for cell_id in ids for problem in problems.get(cell_id, ())}),
        n_problems=None if None in sizes else max(sizes, default=0),
        n_texts_done=sum(len(problems.get(cell_id, ())) for cell_id in ids),
        n_texts=_total(sizes),
    )


def _sentences(progress: Progress) -> Iterator[str]:
    n = progress.document()
    yield (
        f"This study is not finished: {n['n_shards_done']:,} of {_number(n['n_shards'])} shards are done, and "
        f"{n['n_arms_with_texts']} of "
        f"{n['n_arms']} arms have texts. What is shown may still change."
    )
    with_place = len({(arm.model, arm.task, arm.split) for arm in progress.arms}) > 1
    open_arms = [arm for arm in progress.arms if not arm.complete]
    empty = [arm for arm in open_arms if arm.n_texts_done == 0]
    for what, arms in (
        ("No text yet", [arm for arm in empty if arm.n_shards_done == 0]),
        ("Not shown", [arm for arm in empty if arm.n_shards_done]),
    ):
        if arms:
            yield f"{what}: {_named(arms, with_place)}."
    begun: dict[str, list[ArmProgress]] = {}
    for arm in open_arms:
        if arm.n_texts_done:
            begun.setdefault(_share(arm), []).append(arm)
    for share, arms in begun.items():
        yield f"Only {share}: {_named(arms, with_place)}."


def _share(arm: ArmProgress) -> str:
    texts = "" if arm.n_texts == arm.n_problems else f" ({arm.n_texts_done:,} of {_number(arm.n_texts)} texts)"
    return f"{arm.n_problems_done:,} of {_number(arm.n_problems)} problems{texts}"


def _named(arms: Sequence[ArmProgress], with_place: bool) -> str:
    more = f" and {len(arms) - _NAMED} more arms" if len(arms) > _NAMED else ""
    return "; ".join(_name(arm, with_place) for arm in arms[:_NAMED]) + more


def _name(arm: ArmProgress, with_place: bool) -> str:
    at = "" if arm.budget == "none" else f" at budget {arm.budget}"
    return f"{arm.mechanism}{at}" + (f" on {arm.model}, {arm.task}/{arm.split}" if with_place else "")


def _number(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"


def _total(numbers: Iterable[int | None]) -> int | None:
    found = list(numbers)
    return None if None in found else sum(number or 0 for number in found)


def shards_by_cell(shards: Iterable[ShardKey]) -> Counter[str]:
    """Return the number of stored shards of each cell."""
    return Counter(key.cell_id for key in shards)
