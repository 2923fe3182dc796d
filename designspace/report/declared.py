"""Which cells of a results folder a study is, as its newest document declares it, and which others lie beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError, UnknownName
from designspace.report.side_reading import rows_beside
from designspace.store import ResultsStore, ShardKey

REVISION = "revision"  # of a study's document; the highest is how the study stands now
MODELS = "models"  # in its `generation`: by model, the settings in which they differ
LABELS = ("model", "task", "split", "mechanism", "budget")
_NAMED = 8  # studies that are named when one has to be chosen
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Declared:
    """A study as it stands now: its cells, each with its labels, `cell_id`, `replicate`, `n_shards` and `n_problems`.

    The two numbers are None where they are not known here. `document` is what declares it, empty where that is not stored.
    """

    study: str
    cells: tuple[Mapping[str, Any], ...]
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """Labels by cell id: a cell's rows carry those that it was made under."""
        return {cell["cell_id"]: {name: cell[name] for name in LABELS} for cell in self.cells}


@dataclass(frozen=True)
class OtherCells:
    """Cells of one label in the folder that the study does not have; `study` is the one that made them."""

    study: str
    model: str
    task: str
    split: str
    mechanism: str
    budget: str
    n_cells: int
    n_texts: int


def declared_study(store: ResultsStore, name: str | None = None, *, choose: str = "--study") -> Declared | None:
    """Return a study as its newest document declares it: the one of that name, or the only one; None if there is none.

    choose: how whoever asks can name one, for the message.

    Raises:
        UnknownName: there is no study of that name.
        DeclarationError: several studies share the folder, and none is named.
    """
    studies = store.studies()
    if name is None:
        if not studies:
            return None
        if len(studies) > 1:
            raise DeclarationError(
                f"{store.root} holds {len(studies)} studies, so say which one with {choose}: {_some(sorted(studies))}"
            )
        (name,) = studies
    if name not in studies:
        raise UnknownName("study", name, studies)
    document = newest_document(store, studies[name])
    return Declared(name, tuple(document.get("cells", ())), document)


def settings_by_model(document: Mapping[str, Any]) -> dict[str, str]:
    """Return in words how texts are generated, by model, where a study's document says that models differ in it."""
    of_models: Mapping[str, Mapping[str, Any]] = document.get("generation", {}).get(MODELS, {})
    return {model: ", ".join(f"{name} {value:g}" for name, value in of.items()) for model, of in of_models.items()}


def newest_document(store: ResultsStore, documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the document of a study that was declared last.

    The revision says which. Documents of an earlier version have none: of those, the one with the newest rows counts.
    """
    highest = max(document.get(REVISION, 0) for document in documents)
    newest = [document for document in documents if document.get(REVISION, 0) == highest]
    if len(newest) == 1:
        return newest[0]
    begun = _begun(store, newest)
    return max(newest, key=lambda document: (_latest(document, begun), len(_ids(document)), canonical_json(document)))


def other_cells(store: ResultsStore, stored: Iterable[ShardKey], cell_ids: Iterable[str]) -> list[OtherCells]:
    """Return the cells of a folder that are none of these, label by label, with their numbers of cells and texts.

    stored: the shards of the folder, as `ResultsStore.shards` gives them.
    """
    others = {key.cell_id for key in stored} - set(cell_ids)
    if not others:
        return []
    columns = ["study", *LABELS]
    cells: dict[tuple[str, ...], set[str]] = {}
    n_texts: Counter[tuple[str, ...]] = Counter()
    for row in rows_beside(store, [*columns, "cell_id"], others).to_pylist():
        label = tuple(row[name] for name in columns)
        cells.setdefault(label, set()).add(row["cell_id"])
        n_texts[label] += 1
    return [
        OtherCells(**dict(zip(columns, label, strict=True)), n_cells=len(ids), n_texts=n_texts[label])
        for label, ids in sorted(cells.items())
    ]


def _ids(document: Mapping[str, Any]) -> set[str]:
    return {cell["cell_id"] for cell in document.get("cells", ())}


def _begun(store: ResultsStore, documents: Iterable[Mapping[str, Any]]) -> dict[str, datetime]:
    """Return when the newest row of each cell was begun."""
    asked = set().union(*map(_ids, documents))
    begun: dict[str, datetime] = {}
    for row in rows_beside(store, ["cell_id", "started_at"], asked).to_pylist():
        begun[row["cell_id"]] = max(row["started_at"], begun.get(row["cell_id"], _NEVER))
    return begun


def _latest(document: Mapping[str, Any], begun: Mapping[str, datetime]) -> datetime:
    return max((begun.get(cell_id, _NEVER) for cell_id in _ids(document)), default=_NEVER)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
