"""One hypothesis at a time: may it be tested, is everything there, and what does the registered test say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from designspace.protocol.metric import ArmFigures, score_column
from designspace.report.matched_memory import memory_record
from designspace.report.summary import GroupKey
from designspace.statistics.corrections import bonferroni, bonferroni_threshold, holm
from designspace.statistics.equivalence import equivalence, non_inferiority
from designspace.statistics.paired import PairedScores, pair
from designspace.statistics.registered_tests import paired_test
from designspace.statistics.t_test import t_test

Row = Mapping[str, Any]
Sides = Mapping[tuple[str, ...], Sequence[Row]]
Figures = Mapping[tuple[GroupKey, str], ArmFigures]

_MARGIN_TESTS = {"non-inferiority": non_inferiority, "equivalence": equivalence}
_NO_RESULT = (
    "effect", "low", "high", "level", "interval", "direction", "p", "p_difference", "p_t", "claim", "significant",
    "bonferroni_p", "holm_p", "holm_significant",
)  # fmt: skip


def judge(
    registration: Mapping[str, Any], hypothesis: Mapping[str, Any], sides: Sides, figures: Figures
) -> dict[str, Any]:
    """Return the result of a hypothesis, uncorrected; `status` says whether there is one.

    Args:
        registration: the document.
        hypothesis: one of its hypotheses.
        sides: rows by model, task, budget and arm.
        figures: of the arms among the same rows.
    """
    place = (hypothesis["model"], hypothesis["task"], str(hypothesis["budget"]))
    task = next(task for task in registration["data"]["heldout"] if task["name"] == hypothesis["task"])
    group = GroupKey(place[0], place[1], task["split"], place[2])
    names = {"arm": hypothesis["arm"], "baseline": hypothesis["baseline"]}
    rows = {side: sides.get((*place, name), ()) for side, name in names.items()}
    arms = {side: figures.get((group, name)) for side, name in names.items()}
    score = score_column(registration["metric"])
    expected = len(task["problems"]) * registration["replicates"]
    counts = {side: _counts(found, expected, score) for side, found in rows.items()}
    memory = _memory(registration, hypothesis, arms)
    result = {
        **{key: hypothesis.get(key) for key in ("id", "contrast", "arm", "baseline", "kind", "margin")},
        **{"model": place[0], "task": place[1], "split": task["split"], "budget": place[2]},
        "primary": hypothesis.get("primary", True),
        **_status(memory, counts),
        "n_problems": len(task["problems"]),
        "n_replicates": registration["replicates"],
        "counts": counts,
        "memory": memory,
        "arms": {side: _figures(arm, counts[side]) for side, arm in arms.items()},
        **dict.fromkeys(_NO_RESULT),
    }
    if result["status"] == "ok":
        scores = pair(_scores(rows["arm"], score), _scores(rows["baseline"], score))
        result.update(_tested(registration, hypothesis, scores))
    return result


def corrected(registration: Mapping[str, Any], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results with the p values of the primary ones corrected for the registered family.

    A hypothesis without a p value stays in the family, so the threshold does not become easier.
    """
    family = [result for result in results if result["primary"] and result["status"] == "ok"]
    if not family:
        return list(results)
    p_values = [result["p"] for result in family]
    plain = bonferroni(p_values, registration["m"], registration["alpha"])
    stepwise = holm(p_values, registration["m"], registration["alpha"])
    added = {
        result["id"]: {
            "significant": plain.rejected[index],
            "bonferroni_p": plain.adjusted[index],
            "holm_p": stepwise.adjusted[index],
            "holm_significant": stepwise.rejected[index],
        }
        for index, result in enumerate(family)
    }
    return [{**result, **added.get(result["id"], {})} for result in results]


def _tested(registration: Mapping[str, Any], hypothesis: Mapping[str, Any], scores: PairedScores) -> dict[str, Any]:
    level = 1 - registration["alpha"]
    test = registration["test"]
    found = paired_test(scores, test["name"], resamples=test.get("resamples"), seed=test.get("seed"), level=level)
    claim = None
    if hypothesis["kind"] in _MARGIN_TESTS:
        # At the corrected level, so that the interval of the claim says what `significant` says.
        alpha = bonferroni_threshold(registration["m"], registration["alpha"])
        claim = asdict(_MARGIN_TESTS[hypothesis["kind"]](scores, hypothesis["margin"], alpha=alpha))
    return {
        "effect": found.effect,
        "low": found.low,
        "high": found.high,
        "level": found.level,
        "interval": found.interval,
        "direction": "none" if abs(found.effect) < 1e-12 else ("positive" if found.effect > 0 else "negative"),
        "p": found.p_value if claim is None else claim["p_value"],
        "p_difference": found.p_value,
        "p_t": t_test(scores, level=level).p_value,
        "claim": claim,
    }


def _memory(
    registration: Mapping[str, Any], hypothesis: Mapping[str, Any], arms: Mapping[str, ArmFigures | None]
) -> dict[str, Any] | None:
    arm, baseline = arms["arm"], arms["baseline"]
    if arm is None or baseline is None:
        return None
    budget = next(b for b in registration["budgets"] if str(b["label"]) == str(hypothesis["budget"]))
    return memory_record(arm.memory, baseline.memory, budget, registration["tolerance"])


def _counts(rows: Sequence[Row], expected: int, score: str) -> dict[str, int]:
    return {"expected": expected, "found": len(rows), "graded": sum(row[score] is not None for row in rows)}


def _status(memory: Mapping[str, Any] | None, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    if memory is not None and memory["faults"]:
        return {"status": "void", "reason": "; ".join(memory["faults"])}
    lacking = [
        f"{side} has {count['found']} of {count['expected']} generations, {count['graded']} graded"
        for side, count in counts.items()
        if not _is_complete(count)
    ]
    if lacking:
        return {"status": "incomplete", "reason": "; ".join(lacking)}
    return {"status": "ok", "reason": None}


def _is_complete(count: Mapping[str, int]) -> bool:
    # Rows are checked before: none is there twice, and none is of another problem or replicate.
    return count["expected"] == count["found"] == count["graded"]


def _figures(arm: ArmFigures | None, count: Mapping[str, int]) -> dict[str, Any] | None:
    """Return what stands beside an effect; None until the arm is complete."""
    if arm is None or not _is_complete(count):
        return None
    return arm.shown


def _scores(rows: Sequence[Row], score: str) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["problem_id"], []).append(float(row[score]))
    return scores
