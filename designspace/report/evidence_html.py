"""The confirmation of a registered study as a part of the page: what was registered, what came out, what was decided.

Its numbers are those of the sealed report, and no other: the figure of contrasts shows the registered hypotheses alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from designspace.report.markup import bullets, facts, head, name, scrolling, text
from designspace.report.page_contrasts import COLUMNS

_HEADINGS = {
    "arm": True, "against": True, "effect, points": False, "interval, points": False, "p": False, "p, corrected": False,
    "mean cache": False, "verdict": True,
}  # fmt: skip
_WORDS = (
    "The registered hypotheses: each arm less its baseline on the held-out problems. An interval is that of its hypothesis "
    "alone, at the level that was registered; filled marks have a p of at most 0.05 after the registered correction."
)

_METRICS = {"accuracy": "accuracy", "forced_agreement": "agreement"}


def evidence_section(report: Mapping[str, Any], registration: Mapping[str, Any]) -> str:
    """Return the section of a confirmation.

    Args:
        report: of `designspace.protocol.analysis.analyse`.
        registration: the document that it answers.
    """
    decision = report["decision"]
    decided = (
        ""
        if decision is None
        else f"<h3>Decision: branch {text(decision['branch'])}</h3>"
        + "".join(f"<p>{text(reason)}</p>" for reason in decision["reasons"])
    )
    return (
        f"<section class=asked><h2>Confirmation</h2>{facts(_facts(report, registration))}{decided}"
        f"<h3>Hypotheses</h3>{_table(report)}</section>{bullets('Before you believe it', report['notes'])}"
    )


def evidence_contrasts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hypotheses as the page's contrasts, in the form of `page_contrasts`, with the words below the figure."""
    rows = [[_contrast(report, found)[column] for column in COLUMNS] for found in report["hypotheses"]]
    return {"columns": COLUMNS, "rows": rows, "n_left_out": 0, "words": _WORDS, "metric": _METRICS[report["metric"]]}


def _contrast(report: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    points = {key: None if found[key] is None else round(100 * found[key], 6) for key in ("effect", "low", "high")}
    corrected = found["bonferroni_p"] if found["bonferroni_p"] is not None else found["p"]
    return {
        **{key: found[key] for key in ("model", "task", "split", "budget", "arm", "n_problems")},
        "against": found["baseline"],
        "points": points["effect"],
        "low_points": points["low"],
        "high_points": points["high"],
        "p_value": corrected,
        "n_better": None,
        "n_worse": None,
        "n_comparisons": report["m"],
        "void": None if found["status"] == "ok" else found["reason"],
    }


def _facts(report: Mapping[str, Any], registration: Mapping[str, Any]) -> dict[str, object]:
    power = registration["power"]
    effect = power.get("minimum_detectable_effect")
    detects = (
        {} if effect is None else {"detects": f"{100 * effect:.1f} points with a power of {power['target_power']:.0%}"}
    )
    draws = report["test"].get("resamples")
    drawn = f", {draws:,} resamples, seed {report['test']['seed']}" if draws else ""
    return {
        "registration": report["registration"],
        "look": f"number {report['look']} at these held-out problems",
        "metric": report["metric"],
        "test": f"{report['test']['name']}{drawn}",
        "correction": f"{report['correction']} over a family of {report['m']}: p at most {report['threshold']:.4g} counts",
        **detects,
        "smallest effect of interest": f"{100 * report['smallest_effect']:g} points",
        "memory": f"means must agree within {report['tolerance']:.1%}",
        "rows": f"{report['rows']['n']:,}, sha256 {report['rows']['sha256']}",
        "ledger": report["ledger_head"],
    }


def _table(report: Mapping[str, Any]) -> str:
    rows = "".join(_row(found) for found in report["hypotheses"])
    return scrolling(f"<table>{head(_HEADINGS, 'hypothesis')}<tbody>{rows}</tbody></table>", "Registered hypotheses")


def _row(found: Mapping[str, Any]) -> str:
    cells = [
        (name(found["arm"]), True), (name(found["baseline"]), True), (_points(found["effect"]), False),
        (_interval(found), False), (_p(found["p"]), False), (_p(found["bonferroni_p"]), False), (_memory(found), False),
        (text(_verdict(found)), True),
    ]  # fmt: skip
    columns = "".join(f"<td{' class=words' if in_words else ''}>{cell}</td>" for cell, in_words in cells)
    return f'<tr><th scope="row">{name(found["id"])}</th>{columns}</tr>'


def _points(effect: float | None) -> str:
    return "–" if effect is None else f"{100 * effect:+.2f}"


def _interval(found: Mapping[str, Any]) -> str:
    claim = found["claim"] or found
    return "–" if claim["low"] is None else f"{100 * claim['low']:+.2f} to {100 * claim['high']:+.2f}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _memory(found: Mapping[str, Any]) -> str:
    memory = found["memory"]
    return "–" if memory is None else " / ".join(f"{memory[side]['mean']:.1f}" for side in ("arm", "baseline"))


def _verdict(found: Mapping[str, Any]) -> str:
    if found["status"] != "ok":
        return f"{found['status']}: {found['reason']}"
    if found["bonferroni_p"] is None:
        return "not in the registered family"
    return f"{found['kind']}: {'significant' if found['significant'] else 'not significant'}"
