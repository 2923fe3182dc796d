"""A page for each system of the catalogue, and one that groups them by the axis of their main idea."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from designspace.axes import Mechanism
from designspace.cli.describe import describe_mechanism
from designspace.registry import catalog
from docs.generate.figures import FIGURES, drawn_budget, entries
from docs.generate.markdown import default, plain, prose, table
from docs.generate.memory import memory_of
from docs.generate.needs import needs_list
from docs.generate.strategies import AXES, place, references

# The modules of `families.catalog`, each of which has the systems of one kind of idea.
GROUPS = {
    "references": "References and ceilings",
    "prompt_kept": "The whole prompt kept",
    "scorings": "Scoring: which tokens to keep",
    "trained_scorings": "Scoring by a trained network",
    "selectors": "Selector: from a ranking to a set",
    "head_routings": "Head routing: who may hold how much",
    "cadences": "Cadence: when to cut",
    "representations": "Representation: what a slot holds",
    "decodings": "Decoding: how logits become tokens",
    "rejected": "Rejected by the paper that this package replicates",
}
INDEX = """# Systems

A system is a published method, written as one strategy on each axis. Under `mechanisms` in [the sweep file](../sweep-file.md)
it is named as it is, or as the `base` of an arm with another strategy on some axis. `designspace show NAME` prints these pages.
What they score on the bundled models is in [the catalogue](../../catalogue.md).
"""
_PICTURE = """![What {name} keeps: tokens from left to right, steps downwards](../retention/{name}.png)

*What it keeps of one text. A column is a token, a row a step, from the cut of the prompt downwards; the darker, the more KV
heads hold the token; the prompt is blue. The text is the first development problem of `trace-recall`, by trace-llama{how}.*"""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the files of the folder of systems, with their text."""
    yield "index.md", index()
    for name, system in catalog().items():
        yield f"{name}.md", page(system)


def index() -> str:
    """Return the list of all systems, by what their main idea is about."""
    left, parts = dict(catalog()), [INDEX.rstrip()]
    for module, title in GROUPS.items():
        systems = [left.pop(system.name) for system in import_module(f"families.catalog.{module}").SYSTEMS]
        parts += [f"## {title}", _listed(systems)]
    parts += ["## Of other packages", _listed([*left.values()])] if left else []
    return "\n\n".join(parts) + "\n"


def _listed(systems: list[Mechanism]) -> str:
    rows = [[f"[`{system.name}`]({system.name}.md)", prose(system.summary)] for system in systems]
    return table(["system", "what it is"], rows)


def page(system: Mechanism) -> str:
    """Return the page of one system."""
    described = describe_mechanism(system, [64])
    claims = " ".join(part["claim"] for part in described["axes"].values())
    parts = [
        f"# `{system.name}`",
        f"{prose(system.summary[:1].upper() + system.summary[1:])}.",
        *_picture(system),
        "## Composition",
        _composition(system),
    ]
    if system.choices:
        parts += ["## Choices", "What the source leaves open or does otherwise; in parentheses what changes it.",
                  "\n".join(f"* {prose(choice)}" for choice in system.choices)]  # fmt: skip
    parts += [
        "## What it needs",
        needs_list(system.needs()),
        "## Memory",
        memory_of(system.representation, system.needs(), system.scoring.selector.weighs),
    ]
    parts += ["## Budget", _budget(system), *_settings(system), *references(f"[{system.citation}] {claims}")]
    return "\n\n".join(parts) + "\n"


def _picture(system: Mechanism) -> list[str]:
    if not (FIGURES / f"{system.name}.png").is_file():
        return [] if system.cadence.compresses else ["It holds every token of a text, so there is nothing to draw."]
    budget = drawn_budget(system)
    how = (
        f", at a budget of {budget['tokens']} tokens{', nominal' * (len(budget) == 2)}" if system.budget_applies else ""
    )
    settings = " with the settings below" if not isinstance(entries().get(system.name, ""), str) else ""
    return [_PICTURE.format(name=system.name, how=how + settings)]


def _composition(system: Mechanism) -> str:
    described = describe_mechanism(system)["axes"]
    rows = []
    for axis, part in system.strategies().items():
        strategy = described[axis]
        parameters = (
            ", ".join(f"`{name}`: {default(value)}" for name, value in strategy["parameters"].items()) or "none"
        )
        link = f"[`{part.kind}`](../strategies/{place(axis, part.kind)})"
        rows.append([AXES[axis][0].lower(), f"{link}: {prose(strategy['claim'])}", parameters])
    if system.decoding is None:
        rows.append(["decoding", "as `generation` in the sweep says", ""])
    return table(["axis", "strategy", "parameters"], rows)


def _budget(system: Mechanism) -> str:
    described = describe_mechanism(system, [64])
    if not described["budget_applies"]:
        return f"Takes none: {described['why_no_budget']}."
    rows = []
    for row in described["budgets"]:
        label = f"64 {row['of']}"
        if "refused" in row:
            rows.append([label, f"refused: {prose(row['refused'])}", "", "", ""])
            continue
        numbers = [row["interval_steps"], row["steady_mean_tokens"]]
        after = "/".join(str(size) for size in row["after_event_tokens"])
        shown = ["–" if number is None else f"{number:g}" for number in numbers]
        rows.append([label, after, *shown, "grows" if row["peak_tokens"] is None else f"{row['peak_tokens']:g}"])
    head = ["budget", "tokens after an event", "steps between events", "mean", "largest"]
    return "What 64 tokens per layer and KV head come to, by what the number is said to be:\n\n" + table(head, rows)


def _settings(system: Mechanism) -> list[str]:
    entry = entries().get(system.name)
    if entry is None or isinstance(entry, str):
        return []
    declared = {name: value for name, value in entry.items() if name not in ("name", "base")}
    words = "The shipped sweep of the catalogue changes these, as its models write short texts in small heads:"
    return [
        "## Settings on the test bed",
        words,
        "```yaml\n" + "\n".join(f"{k}: {plain(v)}" for k, v in declared.items()) + "\n```",
    ]
