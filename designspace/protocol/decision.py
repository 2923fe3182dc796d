"""Decision rules: from the results of the cells to a branch, by rules written down before anybody saw a result.

Rules are plain data, a list of branches tried in order:

    - {branch: A, rule: {all_of: [
        {any: {where: {model: q}, effect: positive, p_below: 0.05}},
        {mean_effect: {where: {model: l}, above: 0}},
        {none: {where: {model: l}, effect: negative, p_below: 0.05}}]}}
    - {branch: C, rule: otherwise}

A rule is one of `any`, `all`, `none` (over the cells that `where` picks: `effect` positive or negative, `p_below`, which
is of the uncorrected p, `significant` after correction), `mean_effect` (`above` or `below`, effects as fractions),
`all_of`, `any_of`, `not`. `where` takes fields of a cell (`model`, `task`, `budget`, `contrast`, `arm`, `baseline`, `id`)
with a value or a list of values.

A cell that is void or incomplete has no result, so what looks at it is neither true nor false. The branch is then
`void`, unless the rules come out the same whatever that cell would have said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from designspace.errors import ProtocolError
from designspace.protocol.rule_language import QUANTIFIERS, VOID, broken_branches, wheres_of

Rule = Mapping[str, Any]
Cell = Mapping[str, Any]

_PAPER_LEVEL = 0.05


@dataclass(frozen=True)
class Decision:
    """The branch, and one line for each rule that led to it."""

    branch: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Verdict:
    """Truth of a rule, None where a cell without a result leaves it open, and why."""

    holds: bool | None
    why: str


def paper_rules(qwen: str, llama: str, contrast: str | None = None) -> list[dict[str, Any]]:
    """Return the branches of the replicated paper [sun2026minimal].

    A: a cell of the first model gains at p < 0.05, uncorrected, and the second model gains on average and loses
    significantly (same level) in no cell. B: the first holds, the second does not. C: otherwise. A asks neither for a
    gain that survives the correction nor for no loss in the first model's other cells.

    Args:
        qwen: name of the model of the first condition.
        llama: name of the model of the second.
        contrast: looks at the cells of this one alone; None where there is one.
    """
    only = {} if contrast is None else {"contrast": contrast}
    first, second = {"model": qwen, **only}, {"model": llama, **only}
    gains: Rule = {"any": {"where": first, "effect": "positive", "p_below": _PAPER_LEVEL}}
    carries = [
        {"mean_effect": {"where": second, "above": 0.0}},
        {"none": {"where": second, "effect": "negative", "p_below": _PAPER_LEVEL}},
    ]
    return [
        {"branch": "A", "rule": {"all_of": [gains, *carries]}},
        {"branch": "B", "rule": {"all_of": [gains, {"not": {"all_of": carries}}]}},
        {"branch": "C", "rule": "otherwise"},
    ]


def branches_of(decision: Any) -> list[dict[str, Any]]:
    """Return the branches of a registered `decision`: a list of them, or a mapping with `rules`.

    Raises:
        ProtocolError: it is not written in the language of rules.
    """
    rules: Any = decision.get("rules") if isinstance(decision, Mapping) else decision
    if rules == "paper":
        roles = decision.get("roles") if isinstance(decision, Mapping) else None
        if not isinstance(roles, Mapping) or set(roles) != {"qwen", "llama"}:
            raise ProtocolError(f"decision: paper must have roles {{qwen: model, llama: model}}, got {roles!r}")
        rules = paper_rules(roles["qwen"], roles["llama"], decision.get("contrast"))
    problems = list(broken_branches(rules))
    if problems:
        raise ProtocolError("\n".join(f"decision: {problem}" for problem in problems))
    return [dict(branch) for branch in rules]


def check_decision(decision: Any, cells: Sequence[Cell]) -> None:
    """Raise ProtocolError unless the rules are well formed and each `where` picks a cell of the hypotheses.

    Args:
        decision: as registered.
        cells: the hypotheses; results are not looked at.
    """
    wheres = [where for branch in branches_of(decision) for where in wheres_of(branch["rule"])]
    for where in wheres:
        _picked(where, cells)
    contrasts = {str(cell.get("contrast")) for cell in cells}
    of_paper = isinstance(decision, Mapping) and decision.get("rules") == "paper"
    if of_paper and decision.get("contrast") is None and len(contrasts) > 1:
        raise ProtocolError(f"decision: paper must say which contrast, got {', '.join(sorted(contrasts))}")


def decide(rules: Any, cells: Sequence[Cell]) -> Decision:
    """Return the first branch whose rule holds.

    Args:
        rules: as registered, see `branches_of`.
        cells: one per hypothesis: the places of `where`, `status` (`ok` or why not), and for `ok` ones `effect`, `p`
            (uncorrected) and `significant` (after correction, None outside the family).

    Raises:
        ProtocolError: the rules are not well formed, or look at cells that are not there.
    """
    check_decision(rules, cells)
    reasons = []
    for branch in branches_of(rules):
        name, rule = branch["branch"], branch["rule"]
        verdict = _Verdict(True, "no branch before holds") if rule == "otherwise" else _judge(rule, cells)
        word = {True: "holds", False: "does not hold", None: "cannot be told"}[verdict.holds]
        reasons.append(f"{name} {word}: {verdict.why}")
        if verdict.holds is None:
            return Decision(VOID, tuple(reasons))
        if verdict.holds:
            return Decision(name, tuple(reasons))
    raise AssertionError("the last branch is `otherwise`")


def _judge(rule: Rule, cells: Sequence[Cell]) -> _Verdict:
    (kind, body), *_ = rule.items()
    if kind == "not":
        inner = _judge(body, cells)
        return _Verdict(None if inner.holds is None else not inner.holds, f"not ({inner.why})")
    if kind == "mean_effect":
        return _judge_mean(body, cells)
    if kind in QUANTIFIERS:
        return _judge_cells(kind, body, cells)
    inner_verdicts = [_judge(part, cells) for part in body]
    join = _all if kind == "all_of" else _any
    return _Verdict(join([verdict.holds for verdict in inner_verdicts]), "; ".join(v.why for v in inner_verdicts))


def _judge_cells(kind: str, body: Rule, cells: Sequence[Cell]) -> _Verdict:
    picked = _picked(body["where"], cells)
    truths = [_satisfies(body, cell) for cell in picked]
    holds = {"any": _any, "all": _all, "none": _no}[kind](truths)
    matches = [_shown(cell) for cell, truth in zip(picked, truths, strict=True) if truth]
    unknown = [_shown(cell) for cell, truth in zip(picked, truths, strict=True) if truth is None]
    why = f"{kind} of {_place(body['where'])} {_asked(body)}: {', '.join(matches) or 'no cell'}"
    return _Verdict(holds, f"{why}, without a result {', '.join(unknown)}" if unknown else why)


def _judge_mean(body: Rule, cells: Sequence[Cell]) -> _Verdict:
    picked = _picked(body["where"], cells)
    bound, above = (body["above"], True) if "above" in body else (body["below"], False)
    asked = f"mean effect of {_place(body['where'])} {'above' if above else 'below'} {100 * bound:+.2f} points"
    unknown = [_shown(cell) for cell in picked if cell["status"] != "ok"]
    if unknown:
        return _Verdict(None, f"{asked}: without a result {', '.join(unknown)}")
    mean = sum(cell["effect"] for cell in picked) / len(picked)
    return _Verdict(mean > bound if above else mean < bound, f"{asked}: {100 * mean:+.2f}")


def _satisfies(body: Rule, cell: Cell) -> bool | None:
    if cell["status"] != "ok":
        return None
    effect, p_below, significant = body.get("effect"), body.get("p_below"), body.get("significant")
    return (
        (effect is None or (cell["effect"] > 0 if effect == "positive" else cell["effect"] < 0))
        and (p_below is None or cell["p"] < p_below)
        and (significant is None or bool(cell["significant"]) == significant)
    )


def _picked(where: Rule, cells: Sequence[Cell]) -> list[Cell]:
    found = [cell for cell in cells if all(_fits(cell.get(place), wanted) for place, wanted in where.items())]
    if not found:
        raise ProtocolError(f"decision: where must pick a cell of the hypotheses, got {_place(where)}")
    return found


def _fits(value: Any, wanted: Any) -> bool:
    return str(value) in [str(item) for item in (wanted if isinstance(wanted, list | tuple) else [wanted])]


def _any(truths: Sequence[bool | None]) -> bool | None:
    return True if any(truths) else (None if None in truths else False)


def _all(truths: Sequence[bool | None]) -> bool | None:
    return False if False in truths else (None if None in truths else True)


def _no(truths: Sequence[bool | None]) -> bool | None:
    found = _any(truths)
    return None if found is None else not found


def _place(where: Rule) -> str:
    return " ".join(f"{place}={wanted}" for place, wanted in where.items()) or "all cells"


def _asked(body: Rule) -> str:
    asked = [body["effect"]] if body.get("effect") else []
    asked += [f"at p < {body['p_below']}"] if body.get("p_below") is not None else []
    if body.get("significant") is not None:
        asked.append("significant after correction" if body["significant"] else "not significant after correction")
    return " ".join(asked)


def _shown(cell: Cell) -> str:
    if cell["status"] != "ok":
        return f"{cell['id']} ({cell['status']})"
    return f"{cell['id']} ({100 * cell['effect']:+.2f} points, p = {cell['p']:.4g})"
