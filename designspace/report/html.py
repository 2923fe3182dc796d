"""The report as one HTML file that needs nothing else: it can be read from a folder, without a network, and printed.

The page says first what was asked, what is missing and what must not be compared. Its figures and its table are drawn by
scripts that it holds; the static page has none, and the tables of all columns are on both, for paper and for readers without
scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from designspace.report import wording
from designspace.report.asked import Asked
from designspace.report.block_tables import block_tables
from designspace.report.columns import FIDELITY_COLUMNS, arm_columns
from designspace.report.cost import Costs, cost_section
from designspace.report.declared import OtherCells
from designspace.report.evidence_html import evidence_section
from designspace.report.fidelity import ArmFidelity
from designspace.report.figure import accuracy_figure, svg
from designspace.report.kinds_table import kinds_tables
from designspace.report.markup import bullets, facts, scrolling, text
from designspace.report.page_data import Evidence, page_data, script_text
from designspace.report.page_files import policy, scripts, style, weight_kb
from designspace.report.page_problems import problems_section
from designspace.report.reading import how_to_read
from designspace.report.study_report import StudyReport, table_report
from designspace.report.summary import TOLERANCE, ArmSummary
from designspace.store.commit import atomic_bytes


def write_report(
    source: StudyReport | pa.Table,
    path: str | Path,
    *,
    title: str,
    environment: Mapping[str, Any],
    asked: Asked | None = None,
    against: Sequence[str] = (),
    static: bool = False,
    tolerance: float = TOLERANCE,
    evidence: Evidence | None = None,
    problems: Mapping[str, Any] | None = None,
    occupancy: Sequence[Mapping[str, Any]] = (),
    costs: Costs | None = None,
) -> Path:
    """Write a report to one HTML file, whole or not at all, and return its path.

    The same report, title, environment and question give the same bytes.

    Args:
        source: what `study_report` returned; or rows joined with grades, as `ResultsStore.samples().to_table()` gives them,
            of which nothing is known but what they say.
        path: the file; it is replaced if it exists.
        title: heading of the page.
        environment: versions and the like, shown as a list.
        asked: what the study asked, from `designspace.report.asked.asked`.
        against: arms that the page holds the others against, before those that there is room for.
        static: a page without scripts, whose figures do not move; it needs matplotlib.
        tolerance: of a table of rows: relative difference of realised means up to which arms count as matched.
        evidence: of a confirmation: its report and its registration.
        problems: every text, from `designspace.report.page_problems.problems_data`; None where they are too many.
        occupancy: how full the caches were, from `designspace.report.page_occupancy.page_occupancy`.
        costs: what was measured of arms that ran alone, from `designspace.report.cost.read_costs`; None says nothing of it.

    Raises:
        StoreError: a column is missing, or writing failed.
        UnknownName: the report has no such arm to hold others against.
    """
    path = Path(path)
    report = source if isinstance(source, StudyReport) else table_report(source, tolerance)
    page = render(
        report,
        title=title,
        environment=environment,
        asked=asked or Asked(),
        against=against,
        static=static,
        evidence=evidence,
        problems=problems,
        occupancy=occupancy,
        costs=costs,
    )
    atomic_bytes(path, page.encode("utf-8"), path.resolve().parent)
    return path


def render(
    report: StudyReport,
    *,
    title: str,
    environment: Mapping[str, Any],
    asked: Asked,
    against: Sequence[str] = (),
    static: bool = False,
    evidence: Evidence | None = None,
    problems: Mapping[str, Any] | None = None,
    occupancy: Sequence[Mapping[str, Any]] = (),
    costs: Costs | None = None,
) -> str:
    """Return the page of a report."""
    body = [
        f"<header><h1>{text(title)}</h1><p class=lede>{text(_lede(report, asked))}</p></header>",
        bullets("Not finished", (*report.missing, *asked.failed), "notes missing"),
        "" if evidence is None else evidence_section(*evidence),
        _question(report, asked),
        bullets("Before you compare", report.notes),
        "" if static else _figures(),
        *_places(report, asked, static),
        _fidelity(report.fidelity, len({arm.place for arm in report.arms})),
        "" if costs is None else cost_section(costs),
        "" if static else problems_section(None if problems is None else script_text(problems)),
        _others(report.others),
        how_to_read(report.tolerance),
        _environment(environment, static),
    ]
    data = (
        {} if static else page_data(report, asked, title=title, against=against, evidence=evidence, occupancy=occupancy)
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{text(policy())}">\n' if not static else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'{head}<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n{'' if static else _scripts(data)}</body>\n</html>\n"
    )


def _scripts(data: Mapping[str, Any]) -> str:
    elements = "".join(f"<script>{script}</script>\n" for script in scripts())
    return f'<script type="application/json" id="data">{script_text(data)}</script>\n{elements}'


def _lede(report: StudyReport, asked: Asked) -> str:
    word = "Studies" if len(report.studies) > 1 else "Study"
    shown = [*report.arms, *(arm.cache for arm in report.fidelity)]
    n_texts = sum(arm.n_generations for arm in shown)
    arms = f"{len(shown)} arm{'s' if len(shown) != 1 else ''}"
    state = " · not finished" if report.missing or asked.failed else ""
    return f"{word} {', '.join(report.studies) or wording.MISSING} · {arms} · {n_texts:,} texts{state}"


def _question(report: StudyReport, asked: Asked) -> str:
    known = facts({**asked.facts, **_code(report)})
    source = "" if asked.source is None else f'<pre tabindex="0">{_lines(asked.source)}</pre>'
    more = facts(asked.places) + source
    found = (
        f"<details><summary>Where it lies, and the sweep as it was declared</summary>{more}</details>" if more else ""
    )
    return f"<section class=asked><h2>What was asked</h2>{known}{found}</section>" if known or found else ""


def _code(report: StudyReport) -> dict[str, str]:
    """Return which states of the code made the texts."""
    shown = [*report.arms, *(arm.cache for arm in report.fidelity)]
    codes = sorted({code for arm in shown for code in arm.code_ids})
    return {"code of the texts": ", ".join(codes)} if codes else {}


def _lines(lines: str) -> str:
    return "\n".join(text(line) for line in lines.splitlines())


def _figures() -> str:
    return (
        "<p class=scriptless>Figures, and tables that can be sorted, need scripts. All numbers are in the tables below, and "
        "<code>designspace report --static</code> draws figures without.</p><div id=figures></div>"
    )


def _places(report: StudyReport, asked: Asked, static: bool) -> list[str]:
    sections = []
    for index, (_, members) in enumerate(groupby(report.arms, key=lambda arm: arm.place)):
        arms = list(members)
        heading = wording.place_heading(arms)
        figure = _figure(arms, heading, f"figure{index}") if static else ""
        tables = block_tables(arms, arm_columns(asked.levels, arms), lambda arm: arm, heading)
        parts = (figure, _live(index), tables, kinds_tables(arms, heading))
        sections.append(f"<section class=place><h2>{text(heading)}</h2>{''.join(parts)}</section>")
    if sections or report.fidelity:
        return sections
    return ["<p>No rows yet.</p>"]


def _live(index: int) -> str:
    """Return where the script puts its table, the tables counted over the page."""
    return f'<div class=live data-table="{index}"></div>'


def _figure(arms: Sequence[ArmSummary], heading: str, name: str) -> str:
    figure = accuracy_figure(arms)
    if figure is None:
        return "<p>No graded texts with a budget yet, so there is no figure.</p>"
    drawing = svg(figure, name).replace(
        "<svg ", f'<svg role="img" aria-label="Accuracy over cache size, {text(heading)}" ', 1
    )
    return (
        f"<figure>{drawing}<figcaption>Accuracy against the mean cache that each arm really held, with 95 % intervals. "
        "Hollow markers are unmatched arms, dashed lines references.</figcaption></figure>"
    )


def _fidelity(arms: Sequence[ArmFidelity], n_before: int) -> str:
    if not arms:
        return ""
    parts = []
    for index, (_, members) in enumerate(groupby(arms, key=lambda arm: arm.place), start=n_before):
        of_place = list(members)
        heading = wording.place_heading([arm.cache for arm in of_place])
        tables = block_tables(of_place, FIDELITY_COLUMNS, lambda arm: arm.cache, f"teacher-forced, {heading}")
        parts.append(f"<h3>{text(heading)}</h3>{_live(index)}{tables}")
    return f"<section><h2>Fidelity to the full cache</h2><p>{text(wording.FIDELITY)}</p>{''.join(parts)}</section>"


def _others(others: Sequence[OtherCells]) -> str:
    if not others:
        return ""
    names = ("study", "model", "task", "split", "budget", "mechanism", "n_cells", "n_texts")
    head = "".join(f'<th scope="col">{text(name.removeprefix("n_"))}</th>' for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{text(getattr(cells, name))}</td>" for name in names) + "</tr>" for cells in others
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        "<section><h2>Not in this report</h2><p>The same folder holds these cells of other studies, or of this one as it was "
        f"declared before. They are in no number above.</p>{scrolling(table, 'Other cells of the folder')}</section>"
    )


def _environment(environment: Mapping[str, Any], static: bool) -> str:
    charts = {} if static else {"charts": f"Observable Plot and d3, {weight_kb()} kB of this page"}
    shown = facts({**environment, **charts})
    return f"<section><h2>This page was made with</h2>{shown}</section>" if shown else ""
