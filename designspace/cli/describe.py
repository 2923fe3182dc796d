"""Strategies, mechanisms, models and tasks in words and as plain data: what `designspace list` and `show` print."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, asdict, fields
from typing import Any, cast, get_args

from designspace.axes import Budget, Cadence, Mechanism, Schedule, Strategy, TokenReading, WindowShare
from designspace.cli.bibliography import references_in
from designspace.errors import DeclarationError, DesignspaceError, UnknownName
from designspace.models.model_spec import bundled_names
from designspace.registry import REGISTRY_AXES, catalog, kinds, strategy
from designspace.tasks import Task, lookup

SECTIONS = (*REGISTRY_AXES, "mechanisms", "models", "tasks")


def listing(section: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return what is installed, by section: the axes with their kinds, mechanisms, bundled models, tasks.

    Raises:
        UnknownName: no such section.
    """
    if section is not None and section not in SECTIONS:
        raise UnknownName("axis or section", section, SECTIONS)
    return {name: _entries(name) for name in SECTIONS if section in (None, name)}


def describe(name: str, budgets: Sequence[int] = ()) -> dict[str, Any]:
    """Return a mechanism (`snapkv`), a strategy (`cadence.every-k`), or a kind that one axis alone has (`every-k`).

    Raises:
        UnknownName: nothing of that name; the message names the nearest.
        DeclarationError: it is a model or a task, of which there is no more to tell.
    """
    if name in catalog():
        return describe_mechanism(catalog()[name], budgets)
    for what, names in (("models", bundled_names()), ("tasks", lookup.task_names())):
        if name in names:
            raise DeclarationError(
                f"show describes mechanisms and strategies, and {name!r} is one of the {what}: `designspace list {what}`"
            )
    axis, _, kind = name.rpartition(".")
    axes = [axis] if axis else [a for a in REGISTRY_AXES if kind in kinds(a)]
    if not axes:
        known = {*catalog(), *(f"{a}.{k}" for a in REGISTRY_AXES for k in kinds(a))}
        raise UnknownName("mechanism or strategy", name, known)
    if len(axes) > 1:
        raise UnknownName("mechanism (several axes have a kind of that name)", name, [f"{a}.{kind}" for a in axes])
    return _describe_strategy(strategy(axes[0], kind), budgets)


def describe_mechanism(mechanism: Mechanism, budgets: Sequence[int] = ()) -> dict[str, Any]:
    """Return a mechanism's composition, what it observes, and the arithmetic of its budget."""
    needs = {name: value for name, value in asdict(mechanism.needs()).items() if value}
    claims = " ".join(claim(type(part)) for part in mechanism.strategies().values())
    return {
        "what": "mechanism",
        "name": mechanism.name,
        "summary": mechanism.summary,
        "citation": mechanism.citation,
        "references": _references(f"[{mechanism.citation}] {claims}"),
        "choices": list(mechanism.choices),
        "axes": {
            axis: {"kind": part.kind, "claim": claim(type(part)), "parameters": _values(part)}
            for axis, part in mechanism.strategies().items()
        },
        "decoding": "as the sweep's generation settings say" if mechanism.decoding is None else mechanism.decoding.kind,
        "observes": needs,
        "budget_applies": mechanism.budget_applies,
        "why_no_budget": _why_no_budget(mechanism.cadence),
        "budgets": list(_arithmetic(mechanism, budgets)) if mechanism.budget_applies else [],
    }


def _why_no_budget(cadence: Cadence) -> str | None:
    """Return why a cadence takes no budget, None if it takes one."""
    if not cadence.compresses:
        return "the cache is never cut"
    return None if cadence.is_matched else "the cache follows from the text, so it is unmatched with other arms"


def claim(kind: type[Strategy]) -> str:
    """Return the first sentence of a strategy's docstring."""
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")


def _describe_strategy(kind: type[Strategy], budgets: Sequence[int]) -> dict[str, Any]:
    described = {
        "what": "strategy",
        "name": f"{kind.axis}.{kind.kind}",
        "axis": kind.axis,
        "kind": kind.kind,
        "version": kind.version,
        "citation": kind.citation,
        "references": _references(f"[{kind.citation}] {inspect.getdoc(kind)}"),
        "claim": claim(kind),
        "doc": inspect.getdoc(kind) or "",
        "parameters": {f.name: _default(f) for f in fields(kind)},
    }
    if issubclass(kind, Cadence) and not any(_is_required(f) for f in fields(kind)):
        described["budgets"] = list(_arithmetic(kind(), budgets)) if kind.compresses and kind.is_matched else []
    return described


def _references(text: str) -> dict[str, dict[str, Any]]:
    return {key: {**found._asdict(), "authors": list(found.authors)} for key, found in references_in(text).items()}


def _arithmetic(what: Mechanism | Cadence, budgets: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield what each budget comes to, in each of its readings; an infeasible one comes with the reason."""
    for tokens in budgets:
        for of in get_args(TokenReading):
            budget = Budget(tokens, of)
            try:
                schedule = what.bind(budget) if isinstance(what, Mechanism) else what.schedule(budget)
            except DesignspaceError as error:
                yield {"tokens": tokens, "of": of, "refused": str(error)}
                continue
            yield {"tokens": tokens, "of": of, **_schedule(schedule)}


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {
        "after_event_tokens": sorted({schedule.low, schedule.high}),
        "interval_steps": getattr(schedule, "interval", None),
        "steady_mean_tokens": schedule.steady_mean,
        "peak_tokens": schedule.steady_peak,
    }


def _entries(section: str) -> list[dict[str, Any]]:
    if section == "mechanisms":
        return [{"name": m.name, "summary": m.summary, "citation": m.citation} for m in catalog().values()]
    if section == "models":
        return [{"name": name, "summary": "ships with the package"} for name in bundled_names()]
    if section == "tasks":
        return [_task_row(lookup.task(name)) for name in lookup.task_names()]
    found = [strategy(section, kind) for kind in kinds(section)]
    return [{"name": k.kind, "summary": claim(k), "citation": k.citation} for k in found]


def _task_row(task: Task) -> dict[str, Any]:
    summary = f"{task.summary}; splits: {', '.join(task.splits)}; graded as {task.grader.kind}"
    if task.parameters:
        summary += f"; parameters: {', '.join(f'{n}={p.default}' for n, p in task.parameters.items())}"
    return {"name": task.name, "summary": summary}


def _values(part: Strategy) -> dict[str, Any]:
    return {f.name: _plain(getattr(part, f.name)) for f in fields(part)}


def _default(parameter: Field[Any]) -> Any:
    if parameter.default is not MISSING:
        return _plain(parameter.default)
    return "required" if parameter.default_factory is MISSING else _plain(parameter.default_factory())


def _is_required(parameter: Field[Any]) -> bool:
    return parameter.default is MISSING and parameter.default_factory is MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, Strategy):
        return {"kind": value.kind, **_values(value)}
    if isinstance(value, WindowShare):
        return asdict(value)
    return cast(Any, list(value) if isinstance(value, tuple) else value)


def listing_text(listed: dict[str, list[dict[str, Any]]]) -> str:
    """Return a listing for people."""
    lines: list[str] = []
    for section, entries in listed.items():
        lines += ["", section.replace("_", " ")] if lines else [section.replace("_", " ")]
        width = max((len(entry["name"]) for entry in entries), default=0)
        lines += [f"  {entry['name']:<{width}}  {entry['summary']}{_cited(entry)}" for entry in entries] or ["  none"]
    return "\n".join(lines)


def description_text(described: dict[str, Any]) -> str:
    """Return a description for people."""
    if described["what"] == "strategy":
        lines = [f"{described['name']} (version {described['version']})", "", described["doc"], "", "defaults"]
        lines += [f"  {name}: {_shown(value)}" for name, value in described["parameters"].items()] or [
            "  no parameters"
        ]
        return "\n".join([*lines, *_budget_lines(described.get("budgets", [])), *_reference_lines(described)])
    lines = [f"{described['name']}: {described['summary']}{_cited(described)}", ""]
    for axis, part in described["axes"].items():
        parameters = ", ".join(f"{name}={_shown(value)}" for name, value in part["parameters"].items())
        lines += [f"  {axis.replace('_', ' '):<14}  {part['kind']}({parameters})", f"  {'':<14}  {part['claim']}"]
    if "decoding" not in described["axes"]:
        lines.append(f"  {'decoding':<14}  {described['decoding']}")
    if described["choices"]:
        lines += ["", "choices taken here, and in parentheses the parameter that changes them"]
        lines += [f"  - {choice}" for choice in described["choices"]]
    observed = ", ".join(f"{name}={_shown(value)}" for name, value in described["observes"].items()) or "nothing"
    lines += ["", f"observes: {observed}"]
    if not described["budget_applies"]:
        lines.append(f"budget: does not apply, {described['why_no_budget']}")
    return "\n".join([*lines, *_budget_lines(described["budgets"]), *_reference_lines(described)])


def _reference_lines(described: dict[str, Any]) -> list[str]:
    lines = ["", "references"] if described["references"] else []
    for key, found in described["references"].items():
        lines.append(f"  [{key}] {', '.join(found['authors'])}")
        lines += [f"    {found['title']}. {found['venue']} {found['year']}", f"    {found['url']}"]
    return lines


def _budget_lines(budgets: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", "budget            after event  interval  steady mean  peak"] if budgets else []
    for row in budgets:
        label = f"{row['tokens']:>5} of {row['of']:<8}"
        if "refused" in row:
            lines.append(f"{label}  refused: {row['refused']}")
            continue
        after = "/".join(str(size) for size in row["after_event_tokens"])
        numbers = [row["interval_steps"], row["steady_mean_tokens"], row["peak_tokens"]]
        interval, mean, peak = ("–" if number is None else f"{number:g}" for number in numbers)
        peak = "grows" if row["peak_tokens"] is None else peak
        lines.append(f"{label}  {after:>11}  {interval:>8}  {mean:>11}  {peak:>4}")
    return lines


def _cited(entry: dict[str, Any]) -> str:
    cited = f"[{entry.get('citation')}]"
    return f" {cited}" if entry.get("citation") and cited not in entry["summary"] else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        inner = ", ".join(f"{name}={_shown(item)}" for name, item in value.items() if name != "kind")
        return f"{value['kind']}({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in value.items()) + "}"
    return str(value)
