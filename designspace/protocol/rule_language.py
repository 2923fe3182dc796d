"""What decision rules may say: `designspace.protocol.decision` tells what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

VOID = "void"
QUANTIFIERS = ("any", "all", "none")
_PLACES = ("model", "task", "budget", "contrast", "arm", "baseline", "id")


def broken_branches(rules: Any) -> Iterator[str]:
    """Yield every fault in a list of branches, each with its dotted place."""
    if not isinstance(rules, list | tuple) or not rules:
        yield f"rules must be `paper` or a list of branches, got {rules!r}"
        return
    for number, branch in enumerate(rules):
        if not isinstance(branch, Mapping) or set(branch) != {"branch", "rule"}:
            yield f"[{number}] must hold branch and rule, got {branch!r}"
            continue
        if branch["branch"] == VOID or not isinstance(branch["branch"], str):
            yield f"[{number}].branch must be a name other than `void`, got {branch['branch']!r}"
        last = number == len(rules) - 1
        if (branch["rule"] == "otherwise") != last:
            yield f"[{number}].rule must {'be' if last else 'not be'} `otherwise`, got {branch['rule']!r}"
        elif not last:
            yield from (f"[{number}].rule{problem}" for problem in _broken_rule(branch["rule"]))


def _broken_rule(rule: Any) -> Iterator[str]:
    if not isinstance(rule, Mapping) or len(rule) != 1:
        yield f" must be a mapping of one rule, got {rule!r}"
        return
    (kind, body), *_ = rule.items()
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        **dict.fromkeys(QUANTIFIERS, _broken_cells),
        "mean_effect": _broken_mean,
        "not": _broken_rule,
        "all_of": _broken_parts,
        "any_of": _broken_parts,
    }
    if kind not in checks:
        yield f" must be one of {', '.join(checks)}, got {kind!r}"
        return
    yield from (f".{kind}{problem}" for problem in checks[kind](body))


def _broken_parts(body: Any) -> Iterator[str]:
    if not isinstance(body, list | tuple) or not body:
        yield f" must be a list of rules, got {body!r}"
        return
    for number, part in enumerate(body):
        yield from (f"[{number}]{problem}" for problem in _broken_rule(part))


def _broken_cells(body: Any) -> Iterator[str]:
    yield from _broken_body(body, ("effect", "p_below", "significant"))
    if not isinstance(body, Mapping):
        return
    if body.get("effect") not in (None, "positive", "negative"):
        yield f".effect must be positive, negative or null, got {body['effect']!r}"
    level = body.get("p_below")
    if level is not None and not (_is_number(level) and 0 < level <= 1):
        yield f".p_below must be in (0, 1], got {level!r}"
    if body.get("significant") is not None and not isinstance(body["significant"], bool):
        yield f".significant must be true, false or null, got {body['significant']!r}"
    if all(body.get(key) is None for key in ("effect", "p_below", "significant")):
        yield " must ask for effect, p_below or significant"


def _broken_mean(body: Any) -> Iterator[str]:
    yield from _broken_body(body, ("above", "below"))
    if isinstance(body, Mapping):
        bounds = [body[key] for key in ("above", "below") if key in body]
        if len(bounds) != 1 or not _is_number(bounds[0]):
            yield f" must have one of above and below, a number, got {dict(body)!r}"


def _broken_body(body: Any, keys: Sequence[str]) -> Iterator[str]:
    if not isinstance(body, Mapping) or not isinstance(body.get("where"), Mapping):
        yield f" must be a mapping with `where`, got {body!r}"
        return
    yield from (f".{key} is unknown" for key in body if key not in ("where", *keys))
    yield from (f".where.{key} is unknown" for key in body["where"] if key not in _PLACES)


def wheres_of(rule: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each `where` of a well-formed rule."""
    if not isinstance(rule, Mapping):
        return
    (kind, body), *_ = rule.items()
    if kind == "not":
        yield from wheres_of(body)
    elif kind in ("all_of", "any_of"):
        for part in body:
            yield from wheres_of(part)
    else:
        yield body["where"]


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)
