"""What an arm costs where nothing else runs: measurements of `designspace bench` that are kept beside results.

The speed of a sweep is that of everything that the machine did meanwhile, so it is no cost of an arm. A measurement is a file
of its own, `bench/<digest>.json` below the results folder, with the machine, the versions and the load that it was made under.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from designspace.report.markup import head, name, scrolling, text
from designspace.store.commit import atomic_bytes, document_bytes

FOLDER = "bench"
MOST_LOAD = 0.1  # cores busy with other work, on average, beside which an arm still counts as alone
_SAME = (
    "model",
    "mechanism",
    "budget",
    "rows",
    "n_new_tokens",
    "step",
    "threads",
    "machine",
)  # measured again: replaced
_HEADINGS = {
    "budget": True, "tokens/s": False, "of rounds": False, "decode step, ms": False, "share of floor, %": False,
    "rows": False, "new tokens": False, "step": True, "threads": False, "measured": True,
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """One arm on one machine.

    Attributes:
        budget: in mean tokens per layer and KV head, or `none`.
        rows, n_new_tokens, step, threads: what was run.
        machine, torch, version: what it ran on; version: of this package.
        date: of the measurement, UTC.
        load: cores that other processes kept busy meanwhile, on average.
        tokens_per_s: the median of the rounds. runs_tokens_per_s: of each.
        step_s: one decode step of all rows, without events. floor_share: what the machine's limits account for of it.
    """

    model: str
    mechanism: str
    budget: str
    rows: int
    n_new_tokens: int
    step: str
    threads: int
    machine: str
    torch: str
    version: str
    date: str
    load: float
    tokens_per_s: float
    runs_tokens_per_s: tuple[float, ...]
    step_s: float
    floor_share: float

    @property
    def is_alone(self) -> bool:
        """Whether the machine did nothing else."""
        return self.load <= MOST_LOAD


COST_COLUMNS = tuple(field.name for field in fields(Cost))


class Costs(NamedTuple):
    """The measurements of a results folder, and the names of files that hold none."""

    found: tuple[Cost, ...]
    unreadable: tuple[str, ...]


def keep_cost(results: Path, cost: Cost) -> Path:
    """Keep a measurement beside results, and return its file; the same arm on the same machine is replaced.

    Raises:
        StoreError: the file system refused.
    """
    same = json.dumps([getattr(cost, name) for name in _SAME])
    path = results / FOLDER / f"{hashlib.sha256(same.encode()).hexdigest()[:16]}.json"
    atomic_bytes(path, document_bytes(asdict(cost)), path.parent)
    return path


def read_costs(results: Path) -> Costs:
    """Return the measurements that lie beside results, by model, budget and speed."""
    found, unreadable = [], []
    for path in sorted((results / FOLDER).glob("*.json")):
        cost = _read(path)
        if cost is None:
            unreadable.append(path.name)
        else:
            found.append(cost)
    return Costs(
        tuple(sorted(found, key=lambda cost: (cost.model, cost.budget, -cost.tokens_per_s))), tuple(unreadable)
    )


def cost_section(costs: Costs) -> str:
    """Return the section of the page: a table for each machine, or how to get one."""
    lines = [
        f"<p>Not a measurement, and left out: {text(', '.join(costs.unreadable))}, in {FOLDER}/.</p>"
        if costs.unreadable
        else ""
    ]
    if not costs.found:
        lines.append(
            "<p>Not measured. The speed of a sweep is that of whatever else its machine did, so it is not shown; "
            "<code>designspace bench MODEL ARM --sweep FILE --results RESULTS</code> measures an arm alone, and this page then "
            "shows it.</p>"
        )
    else:
        lines.append(
            "<p>Each arm ran by itself, with full batches of texts of one length. Tokens/s is the median of the rounds, with "
            "the least and the most beside it. Arms compare on one machine, with the same rows, tokens and threads.</p>"
        )
    machines = dict.fromkeys((cost.machine, cost.torch, cost.version) for cost in costs.found)
    tables = (_table(costs.found, *at) for at in machines)
    return f"<section><h2>Cost, measured alone</h2>{''.join((*lines, *tables))}</section>"


def _table(found: Sequence[Cost], machine: str, torch: str, version: str) -> str:
    here = [cost for cost in found if (cost.machine, cost.torch, cost.version) == (machine, torch, version)]
    caption = f"{text(machine)}, torch {text(torch)}, designspace {text(version)}"
    rows = "".join(_row(cost) for cost in here)
    table = f"<table><caption>{caption}</caption>{head(_HEADINGS, 'model · mechanism')}<tbody>{rows}</tbody></table>"
    return scrolling(table, f"Cost on {machine}")


def _row(cost: Cost) -> str:
    least, most = min(cost.runs_tokens_per_s), max(cost.runs_tokens_per_s)
    beside = "" if cost.is_alone else f", beside other work ({cost.load:.1f} cores busy with it): not a cost"
    cells = (
        text(cost.budget), f"{cost.tokens_per_s:,.0f}", f"{least:,.0f}–{most:,.0f}", f"{1e3 * cost.step_s:,.2f}",
        f"{100 * cost.floor_share:.0f}", f"{cost.rows:,}", f"{cost.n_new_tokens:,}", text(cost.step), f"{cost.threads}",
        text(f"{cost.date}{beside}"),
    )  # fmt: skip
    columns = "".join(
        f"<td{' class=words' if in_words else ''}>{cell}</td>"
        for cell, in_words in zip(cells, _HEADINGS.values(), strict=True)
    )
    kind = "" if cost.is_alone else " class=unmatched"
    return f'<tr{kind}><th scope="row">{name(f"{cost.model} · {cost.mechanism}")}</th>{columns}</tr>'


def _read(path: Path) -> Cost | None:
    try:
        document = json.loads(path.read_bytes())
        return _cost(document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cost(document: dict[str, Any]) -> Cost:
    """Return the measurement that a document holds.

    Raises:
        ValueError, KeyError, TypeError: it holds none.
    """
    words = {
        key: document[key] for key in ("model", "mechanism", "budget", "step", "machine", "torch", "version", "date")
    }
    whole = {key: document[key] for key in ("rows", "n_new_tokens", "threads")}
    numbers = {key: document[key] for key in ("load", "tokens_per_s", "step_s", "floor_share")}
    runs = document["runs_tokens_per_s"]
    is_right = (
        set(document) == set(COST_COLUMNS)
        and all(isinstance(value, str) for value in words.values())
        and all(isinstance(value, int) and value > 0 for value in whole.values())
        and isinstance(runs, list)
        and len(runs) > 0
        and all(isinstance(value, int | float) and value >= 0 for value in (*numbers.values(), *runs))
    )
    if not is_right:
        raise ValueError("no measurement")
    as_floats = {key: float(value) for key, value in numbers.items()}  # whole ones are stored without a point
    return Cost(**{**document, **as_floats, "runs_tokens_per_s": tuple(map(float, runs))})
