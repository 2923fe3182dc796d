"""What a study asked, with what and when, and where its parts lie in the results folder: the head of the page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from designspace.report.declared import MODELS, REVISION, Declared, settings_by_model
from designspace.report.levels import axis_levels
from designspace.store import ResultsStore
from designspace.store.commit import document_bytes
from designspace.store.documents import study_digest
from designspace.store.layout import Layout, ShardKey

_NAMED = 6  # failed shards that are named
_DIGITS = 16  # of a hash of what was run; the store's documents have all of them


@dataclass(frozen=True)
class Asked:
    """What was asked, in words.

    Attributes:
        facts: what was run: models, tasks, budgets, seeds, settings, times, states of the code.
        places: where it lies below the results folder, and what makes the page again.
        source: text of the sweep's file; None where no declaration has it.
        failed: attempts at texts that are still missing, in whole sentences.
        levels: axis -> mechanism -> level, of the arms with a budget, on the axes on which they differ.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    failed: tuple[str, ...] = ()
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def asked(store: ResultsStore, declared: Declared | None, rows: pa.Table) -> Asked:
    """Return what a report's study asked.

    Args:
        store: the results folder.
        declared: the study; None where nothing declares one.
        rows: those that are shown, with `started_at`, `engine_version` and `grader_id`.
    """
    document: Mapping[str, Any] = {} if declared is None else declared.document
    identities = _identities(store, () if declared is None else declared.labels)
    facts = {**_declared_facts(document), **_hashes(document, identities.values()), **_row_facts(rows)}
    arms = {arm["name"]: arm["axes"] for arm in document.get("mechanisms", ()) if arm["budget_applies"]}
    return Asked(
        facts,
        _places(store, declared, identities),
        document.get("source"),
        tuple(_failed(store, None if declared is None else declared.labels)),
        axis_levels(arms) if arms else {},
    )


def _declared_facts(document: Mapping[str, Any]) -> dict[str, str]:
    if "cells" not in document:
        return {}
    n_cells = len(document["cells"])
    problems = {(cell["task"], cell["split"]): cell["n_problems"] for cell in document["cells"]}
    return {
        "models": ", ".join(document["models"]),
        "tasks": ", ".join(_task(*key, n) for key, n in problems.items()),
        "budgets": ", ".join(document["budgets"]) or "none",
        "mechanisms": f"{len(document['mechanisms'])}, in {n_cells:,} cell{'s' if n_cells != 1 else ''}",
        "seeds": _settings(document["seeds"]),
        "generation": _settings({name: value for name, value in document["generation"].items() if name != MODELS}),
        **{f"generation, {model}": said for model, said in settings_by_model(document).items()},
    }


def _task(task: str, split: str, n_problems: int | None) -> str:
    return f"{task}/{split}" if n_problems is None else f"{task}/{split} ({n_problems:,} problems)"


def _settings(section: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in section.items() if value is not None)


def _identities(store: ResultsStore, cell_ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return the identity documents of a study's cells."""
    return {cell_id: of for cell_id, of in store.cells().items() if cell_id in cell_ids}


def _hashes(document: Mapping[str, Any], identities: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the weights and the problems hash to."""
    identities = list(identities)
    models = sorted({_hash(of["model"], "dtype") for of in identities if "model" in of})
    tasks = sorted({_hash(of["task"], "name") for of in identities if "task" in of})
    named = {"hashes of the models": models, "hashes of the problems": tasks}
    return {name: ", ".join(found) for name, found in named.items() if found}


def _hash(part: Mapping[str, Any], beside: str) -> str:
    return f"{str(part.get('content', ''))[:_DIGITS]} ({part.get(beside)})"


def _row_facts(rows: pa.Table) -> dict[str, str]:
    if rows.num_rows == 0:
        return {}
    facts = {}
    if "started_at" in rows.column_names:
        begun = pc.min_max(rows["started_at"]).as_py()
        first, last = (begun[end].strftime("%Y-%m-%d %H:%M") for end in ("min", "max"))
        facts["texts begun"] = f"{first} UTC" if first == last else f"{first} to {last} UTC"
    for name, column in (
        ("engine version", "engine_version"),
        ("graders", "grader_id"),
    ):
        if column in rows.column_names:
            values = sorted({str(value) for value in pc.unique(rows[column]).to_pylist() if value is not None})
            facts |= {name: ", ".join(values)} if values else {}
    return facts


def _failed(store: ResultsStore, cell_ids: Collection[str] | None) -> Iterator[str]:
    """Yield the last failed attempt at each shard of these cells that is not stored; None: of all cells."""
    stored = set(store.shards())
    last = {
        key: failure
        for failure in sorted(store.failures(), key=lambda failure: failure.attempt)
        if (key := ShardKey(failure.cell_id, failure.shard_id)) not in stored
        and (cell_ids is None or failure.cell_id in cell_ids)
    }
    for key, failure in list(last.items())[:_NAMED]:
        what = failure.reason.get("cell", f"cell {key.cell_id[:_DIGITS]}")
        state = "given up" if failure.reason.get("quarantined") else "failed"
        why = ": ".join(str(failure.reason[name]) for name in ("error", "message") if failure.reason.get(name))
        at = f"shard {key.shard_id[:_DIGITS]}, attempt {failure.attempt}"
        yield f"{what}, {at}: {state}: {why or 'no reason is noted'}"
    if len(last) > _NAMED:
        yield f"{len(last) - _NAMED} more shards failed: `designspace status` names all."


def _places(store: ResultsStore, declared: Declared | None, identities: Mapping[str, Any]) -> dict[str, str]:
    layout = Layout(store.root)
    found = {"results folder": store.root.resolve().name}
    if declared is not None and REVISION in declared.document:
        digest = study_digest(document_bytes(declared.document))
        path = layout.study(declared.study, digest).relative_to(store.root)
        found["declaration"] = f"{path.as_posix()} (revision {declared.document[REVISION]})"
    if identities:
        some = min(identities)
        found["a cell's identity"] = layout.cell(some).relative_to(store.root).as_posix()
        found["its texts"] = layout.samples_of(some).relative_to(store.root).as_posix()
    study = "" if declared is None else f" --study {declared.study}"
    found["to make this page again"] = f"designspace report {found['results folder']}{study} --html FILE"
    if declared is not None and declared.document.get("source"):
        found["to run the study again"] = "designspace run FILE, where FILE holds the text below"
    return found
