"""What a reader of a report must know before believing its numbers, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from designspace.protocol.problem_records import hashes_ids


def report_notes(
    registration: Mapping[str, Any], report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the notes of a report, in a fixed order.

    Args:
        registration: the document.
        report: all but its notes.
        rows: what it was made of.
    """
    found = [
        *_history(registration, report),
        *_earlier_rows(registration, report, rows),
        *_software(registration, rows),
    ]
    for result in report["hypotheses"]:
        found += [f"{result['id']}: {text}" for text in _about(registration, result)]
    return found


def _history(registration: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    if report["look"] > 1:
        yield f"held-out look #{report['look']}: these problems, or some of them, were looked at before"
    if registration["seen"]:
        yield "the held-out problems were seen before this registration"
    if registration["parent"] is not None:
        yield f"amends registration {registration['parent']}: {registration['amendment']}"
    primary = sum(result["primary"] for result in report["hypotheses"])
    if registration["m"] > primary:
        yield f"the correction counts a family of {registration['m']}, {primary} of them here"


def _earlier_rows(
    registration: Mapping[str, Any], report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if hashes_ids(registration):  # rows of that time do not name their look
        return
    earlier = sum(row["look_sha256"] != report["ledger_head"] for row in rows)
    if earlier:
        yield f"{earlier} of {len(rows)} generations were there before this look and were not made under it"


def _software(registration: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    registered = registration["code"].get("id") if isinstance(registration["code"], Mapping) else None
    codes = sorted({str(row["code_id"]) for row in rows})
    if len(codes) > 1:
        yield f"the rows come from {len(codes)} states of the code: {', '.join(codes)}"
    elif codes and registered is not None and codes != [registered]:
        yield f"the rows come from code {codes[0]}, registered is {registered}"
    engines = sorted({str(row["engine_version"]) for row in rows})
    if len(engines) > 1:
        yield f"the rows come from {len(engines)} versions of the engine: {', '.join(engines)}"


def _about(registration: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    if result["status"] != "ok":
        yield f"{result['status']}: {result['reason']}"
        return
    if not result["primary"]:
        yield "not in the registered family: exploratory"
    draws = registration["test"].get("resamples")
    if result["p_difference"] == 0 and draws:
        yield f"no resample of {draws} crossed zero: read p = 0 as below {2 / draws:.2g}"
    yield from _size(registration["smallest_effect"], result)


def _size(smallest: float, result: Mapping[str, Any]) -> Iterator[str]:
    if result["kind"] != "superiority":
        return
    if result["significant"] and abs(result["effect"]) < smallest:
        yield f"significant, yet below the smallest effect of interest, {100 * smallest:.1f} points"
    if not result["significant"] and result["high"] >= smallest:
        yield f"not significant, which is no evidence of no gain: the interval reaches {100 * smallest:.1f} points"
