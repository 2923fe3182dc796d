"""The report's tables for a paper or a README: Markdown and LaTeX (booktabs), spelt as in the terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from designspace.report import contrast_words, wording
from designspace.report.contrasts import Contrast
from designspace.report.study_report import StudyReport
from designspace.report.summary import ArmSummary

_One = TypeVar("_One")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{"–": "--", "·": r"$\cdot$"},
}


@dataclass(frozen=True)
class PublishedTable:
    """A table of texts. `n_labels` columns at its left are words, the rest numbers; notes stand below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_labels: int
    caption: str = ""
    notes: tuple[str, ...] = ()


_ARM_COLUMNS: tuple[tuple[str, Callable[[ArmSummary], str]], ...] = (
    ("budget", lambda arm: arm.budget),
    ("mechanism", lambda arm: arm.mechanism),
    ("comparable", wording.comparable),
    ("accuracy, %", lambda arm: wording.percent(arm.accuracy)),
    ("95 % interval", wording.interval),
    ("mean cache, tokens", lambda arm: wording.number(arm.mean_cache_tokens)),
    ("held, KiB", lambda arm: wording.kibibytes(arm.mean_cache_bytes)),
    ("prompt kept, %", lambda arm: wording.percent(arm.prompt_survival_mean, 0)),
    ("new tokens", lambda arm: wording.number(arm.mean_new_tokens, 0)),
)
_CONTRAST_COLUMNS: tuple[tuple[str, Callable[[Contrast], str]], ...] = (
    ("budget", lambda contrast: contrast.budget),
    ("arm", lambda contrast: contrast.arm),
    ("difference, points", contrast_words.points),
    ("95 % interval", contrast_words.points_interval),
    ("p", contrast_words.p_value),
    ("better / worse / all problems", contrast_words.turned),
)


def published_arms(report: StudyReport) -> list[PublishedTable]:
    """Return one table per model and task split; the notes of the report stand below the last one."""
    places = [list(members) for _, members in groupby(report.arms, key=lambda arm: arm.place)]
    caption = (
        "Cache in tokens per layer and KV head, and in bytes of the whole cache of a text, mean over all decode steps. "
        "Prompt kept: in one head, at the end of a text. Intervals are of each arm alone and do not compare arms."
    )
    tables = [
        _table(wording.place_heading(arms), arms, _ARM_COLUMNS, 3, caption if arms is places[-1] else "")
        for arms in places
    ]
    return _with_notes(tables, (*report.missing, *report.notes))


def published_contrasts(found: Sequence[Contrast], notes: Sequence[str] = ()) -> list[PublishedTable]:
    """Return one table per model and task split, and below the last one why contrasts are void."""
    by_place = groupby(found, key=lambda contrast: (contrast.model, contrast.task, contrast.split, contrast.against))
    tables = [
        _table(
            f"{model} · {task}/{split} · less {against}",
            list(members),
            _CONTRAST_COLUMNS,
            2,
            contrast_words.HOW_TO_READ,
        )
        for (model, task, split, against), members in by_place
    ]
    void = [f"{one.arm} at budget {one.budget}: {one.void}" for one in found if one.void is not None]
    return _with_notes(tables, (*notes, *void))


def to_markdown(tables: Iterable[PublishedTable]) -> str:
    """Return tables in Markdown."""
    return "\n".join(_markdown(table) for table in tables)


def to_latex(tables: Iterable[PublishedTable]) -> str:
    r"""Return tables in LaTeX, for `\usepackage{booktabs}`."""
    return "\n".join(_latex(table) for table in tables)


def _table(
    title: str,
    members: Iterable[_One],
    columns: Sequence[tuple[str, Callable[[_One], str]]],
    n_labels: int,
    caption: str,
) -> PublishedTable:
    rows = tuple(tuple(wording.printable(show(one)) for _, show in columns) for one in members)
    return PublishedTable(wording.printable(title), tuple(name for name, _ in columns), rows, n_labels, caption)


def _with_notes(tables: Sequence[PublishedTable], notes: Sequence[str]) -> list[PublishedTable]:
    if not tables:
        return [PublishedTable("No rows yet", (), (), 0, notes=tuple(map(wording.printable, notes)))]
    return [*tables[:-1], replace(tables[-1], notes=tuple(map(wording.printable, notes)))]


def _markdown(table: PublishedTable) -> str:
    lines = [f"**{markdown_cell(table.title)}**", ""]
    if table.headings:
        marks = ["---" if index < table.n_labels else "--:" for index in range(len(table.headings))]
        lines += [
            f"| {' | '.join(map(markdown_cell, row))} |" for row in (table.headings, tuple(marks), *table.rows)
        ] + [""]
    lines += [table.caption, ""] if table.caption else []
    lines += [*(f"* {markdown_cell(note)}" for note in table.notes), ""] if table.notes else []
    return "\n".join(lines)


def markdown_cell(text: str) -> str:
    """Return a text that Markdown shows as it is: a bar would end its cell, and other marks would set it in italics."""
    return "".join(f"\\{character}" if character in "\\|*_`<>[]" else character for character in text)


def _latex(table: PublishedTable) -> str:
    columns = "l" * table.n_labels + "r" * (len(table.headings) - table.n_labels)
    notes = "".join(f"% {note}\n" for note in table.notes)
    if not table.headings:
        return f"% {table.title}\n{notes}"
    body = "\n".join(f"{' & '.join(map(_escaped, row))} \\\\" for row in table.rows)
    caption = _escaped(" ".join(part for part in (f"{table.title}.", table.caption) if part))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{' & '.join(map(_escaped, table.headings))} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        f"\\end{{table}}\n{notes}"
    )


def _escaped(text: str) -> str:
    """Return a text as LaTeX shows it; a signed number gets a minus instead of a hyphen."""
    found = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", found)
