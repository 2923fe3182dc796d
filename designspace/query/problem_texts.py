"""What the arms wrote for one problem, and where each text leaves that of another arm, by the token ids that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from designspace.errors import UnknownName
from designspace.report.arm_rows import NO_BUDGET
from designspace.report.contrasts import default_against
from designspace.report.study_report import StudyReport

Row = Mapping[str, Any]

_READ = (
    "model", "task", "split", "budget", "mechanism", "replicate", "problem_id", "correct", "extracted", "answer",
    "finish_reason", "n_new_tokens", "text", "token_ids", "forced_of", "prompt_text",
)  # fmt: skip
_SHOWN = (
    *(pa.field(name, pa.string()) for name in ("model", "task", "split", "budget", "mechanism")),
    pa.field("replicate", pa.int32()),
    pa.field("correct", pa.bool_()),
    pa.field("extracted", pa.string()),
    pa.field("answer", pa.string()),
    pa.field("finish_reason", pa.string()),
    pa.field("n_new_tokens", pa.int32()),
    pa.field("against", pa.string()),
    pa.field("diverges_at", pa.int64()),
    pa.field("diverges_at_character", pa.int64()),
    pa.field("text", pa.string()),
    pa.field("prompt_text", pa.string()),
)


def problem_texts(table: pa.Table, report: StudyReport, problem: str, against: str | None = None) -> pa.Table:
    """Return one row per text of a problem, full cache first, then by budget as the report has its arms.

    `prompt_text` is the prompt as the model read it, which a chat template, a system message and some decodings add to; null in
    results of versions that did not store it.

    `diverges_at` is the index of the first token, `diverges_at_character` that of the first character, that differs from
    the text of `against`; null where none does, or where there is no such text.

    Raises:
        UnknownName: no text is of that problem, or no arm has the name.
    """
    known = sorted({arm.mechanism for arm in report.arms})
    if against is not None and against not in known:
        raise UnknownName("arm", against, known)
    rows = _rows_of(table, problem)
    name = default_against(report) if against is None else against
    by_key = {(_place(row), row["budget"], row["mechanism"], row["replicate"]): row for row in rows}
    order: dict[tuple[str, ...], int] = {(*arm.group, arm.mechanism): index for index, arm in enumerate(report.arms)}
    rows.sort(
        key=lambda row: (order.get((*_place(row), row["budget"], row["mechanism"]), len(order)), row["replicate"])
    )
    found = []
    for row in rows:
        others = (by_key.get((_place(row), budget, name, row["replicate"])) for budget in (row["budget"], NO_BUDGET))
        other = next((one for one in others if one is not None), None)
        found.append({**row, **_divergence(row, other)})
    return pa.Table.from_pylist(found, schema=pa.schema(_SHOWN))


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """Return the first index at which two sequences differ, the end of the shorter one included; None where they are equal."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return None if len(one) == len(other) else min(len(one), len(other))


def _rows_of(table: pa.Table, problem: str) -> list[dict[str, Any]]:
    written = table.select(_READ).filter(pc.is_null(table["forced_of"]))
    rows: list[dict[str, Any]] = written.filter(pc.equal(written["problem_id"], problem)).to_pylist()
    if not rows:
        raise UnknownName("problem", problem, set(written["problem_id"].to_pylist()))
    return rows


def _place(row: Row) -> tuple[str, str, str]:
    return row["model"], row["task"], row["split"]


def _divergence(row: Row, other: Row | None) -> dict[str, Any]:
    if other is None:
        return {"against": None, "diverges_at": None, "diverges_at_character": None}
    ids = row["token_ids"], other["token_ids"]
    return {
        "against": other["mechanism"],
        "diverges_at": None if None in ids else first_difference(*ids),
        "diverges_at_character": first_difference(row["text"], other["text"]),
    }
