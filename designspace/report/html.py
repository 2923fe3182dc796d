"""The report as one HTML file that needs nothing else: no script, no request, readable from a folder.

Labels and model text are untrusted: everything that is not markup of this module goes through `escape`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from designspace.report import wording
from designspace.report.declared import OtherCells
from designspace.report.fidelity_html import fidelity_section
from designspace.report.figure import CSS_NAMES, DARK, accuracy_figure, svg
from designspace.report.study_report import StudyReport, table_report
from designspace.report.summary import TOLERANCE, ArmSummary
from designspace.store.commit import atomic_bytes

_COLUMNS: tuple[tuple[str, Callable[[ArmSummary], str]], ...] = (
    ("accuracy, %", lambda arm: wording.percent(arm.accuracy)),
    ("95 % interval", wording.interval),
    ("lenient, %", lambda arm: wording.percent(arm.lenient_accuracy)),
    ("extracted, %", lambda arm: wording.percent(arm.extraction_rate)),
    ("accuracy if extracted, %", lambda arm: wording.percent(arm.accuracy_given_extraction)),
    ("truncated, %", lambda arm: wording.percent(arm.truncation_rate)),
    ("prompt kept in a head, %", lambda arm: wording.percent(arm.prompt_survival_mean)),
    ("prompt kept in any head, %", lambda arm: wording.percent(arm.prompt_survival_union)),
    ("mean cache, tokens", lambda arm: wording.number(arm.mean_cache_tokens)),
    ("steady mean, tokens", lambda arm: wording.number(arm.steady_mean_cache_tokens)),
    ("peak, tokens", lambda arm: wording.number(arm.peak_cache_tokens, 0)),
    ("held, KiB", lambda arm: wording.kibibytes(arm.mean_cache_bytes)),
    ("read per step, KiB", lambda arm: wording.kibibytes(arm.mean_read_bytes)),
    ("auxiliary, KiB", lambda arm: wording.kibibytes(arm.mean_aux_bytes)),
    ("events per text", lambda arm: wording.number(arm.mean_n_events)),
    ("texts with events, %", lambda arm: wording.percent(arm.event_share, 0)),
    ("new tokens per text", lambda arm: wording.number(arm.mean_new_tokens, 0)),
    ("tokens/s", lambda arm: wording.number(arm.tokens_per_s, 0)),
    ("texts", lambda arm: str(arm.n_generations)),
    ("problems", lambda arm: str(arm.n_problems)),
    ("comparable", wording.comparable),
)


def write_report(
    source: StudyReport | pa.Table,
    path: str | Path,
    *,
    title: str,
    environment: Mapping[str, Any],
    tolerance: float = TOLERANCE,
) -> Path:
    """Write a report to one HTML file, whole or not at all, and return its path.

    The same report, title and environment give the same bytes.

    Args:
        source: what `study_report` returned; or rows joined with grades, as `ResultsStore.samples().to_table()` gives them,
            of which nothing is known but what they say.
        path: the file; it is replaced if it exists.
        title: heading of the page.
        environment: versions and the like, shown as a list.
        tolerance: of a table of rows: relative difference of realised means up to which arms count as matched.

    Raises:
        StoreError: a column is missing, or writing failed.
    """
    path = Path(path)
    report = source if isinstance(source, StudyReport) else table_report(source, tolerance)
    page = render(report, title=title, environment=environment)
    atomic_bytes(path, page.encode("utf-8"), path.resolve().parent)
    return path


def render(report: StudyReport, *, title: str, environment: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    sections = []
    for index, (_, members) in enumerate(groupby(report.arms, key=lambda arm: arm.place)):
        arms = list(members)
        sections.append(_section(wording.place_heading(arms), arms, f"figure{index}"))
    body = [
        f"<header><h1>{_text(title)}</h1><p class=lede>{_text(_lede(report))}</p></header>",
        _notes("Not finished", report.missing),
        _notes("Before you compare", report.notes),
        *(sections or ([] if report.fidelity else ["<p>No rows yet.</p>"])),
        fidelity_section(report.fidelity),
        _others(report.others),
        _how_to_read(report.tolerance),
        _environment({**environment, **_code(report)}),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _lede(report: StudyReport) -> str:
    word = "Studies" if len(report.studies) > 1 else "Study"
    shown = [*report.arms, *(arm.cache for arm in report.fidelity)]
    n_texts = sum(arm.n_generations for arm in shown)
    arms = f"{len(shown)} arm{'s' if len(shown) != 1 else ''}"
    state = " · not finished" if report.missing else ""
    return f"{word} {', '.join(report.studies) or wording.MISSING} · {arms} · {n_texts:,} texts{state}"


def _code(report: StudyReport) -> dict[str, str]:
    """Return which states of the code made the texts."""
    shown = [*report.arms, *(arm.cache for arm in report.fidelity)]
    codes = sorted({code for arm in shown for code in arm.code_ids})
    return {"code of the texts": ", ".join(codes)} if codes else {}


def _text(value: object) -> str:
    return escape(wording.printable(str(value)))


def _style() -> str:
    light = "; ".join(f"{name}: {hue}" for hue, name in CSS_NAMES.items())
    dark = "; ".join(f"{name}: {DARK[hue]}" for hue, name in CSS_NAMES.items())
    css = files("designspace.report").joinpath("page.css").read_text(encoding="utf-8")
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{css}"


def _notes(heading: str, found: Sequence[str]) -> str:
    if not found:
        return ""
    items = "".join(f"<li>{_text(note)}</li>" for note in found)
    return f"<section class=notes><h2>{_text(heading)}</h2><ul>{items}</ul></section>"


def _others(others: Sequence[OtherCells]) -> str:
    if not others:
        return ""
    names = ("study", "model", "task", "split", "budget", "mechanism", "n_cells", "n_texts")
    head = "".join(f'<th scope="col">{_text(name.removeprefix("n_"))}</th>' for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_text(getattr(cells, name))}</td>" for name in names) + "</tr>" for cells in others
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        "<section><h2>Not in this report</h2><p>The same folder holds these cells of other studies, or of this one as it was "
        f"declared before. They are in no number above.</p>{_scrolling(table, 'Other cells of the folder')}</section>"
    )


def _section(heading: str, arms: Sequence[ArmSummary], name: str) -> str:
    parts = (_figure(arms, heading, name), _table(arms, heading), _kinds(arms, heading))
    return f"<section><h2>{_text(heading)}</h2>{''.join(parts)}</section>"


def _figure(arms: Sequence[ArmSummary], heading: str, name: str) -> str:
    figure = accuracy_figure(arms)
    if figure is None:
        return "<p>No graded texts with a budget yet, so there is no figure.</p>"
    drawing = svg(figure, name).replace(
        "<svg ", f'<svg role="img" aria-label="Accuracy over cache size, {_text(heading)}" ', 1
    )
    return (
        f"<figure>{drawing}<figcaption>Accuracy against the mean cache that each arm really held, with 95 % intervals. "
        "Matched arms of one budget are moved sideways so that they do not cover each other: read their cache from the "
        "table. Hollow markers are unmatched arms, dashed lines references.</figcaption></figure>"
    )


def _table(arms: Sequence[ArmSummary], heading: str) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name, _ in _COLUMNS)
    groups = []
    for budget, members in groupby(arms, key=wording.budget_heading):
        rows = [f'<tr><th scope="rowgroup" colspan="{len(_COLUMNS) + 1}">{_text(budget)}</th></tr>']
        for arm in members:
            cells = "".join(f"<td>{_text(show(arm))}</td>" for _, show in _COLUMNS)
            state = ' class="unmatched"' if arm.comparison == "unmatched" else ""
            rows.append(f'<tr{state}><th scope="row">{_text(arm.mechanism)}</th>{cells}</tr>')
        groups.append(f"<tbody>{''.join(rows)}</tbody>")
    caption = "Tokens are per layer and KV head. Means of the cache are over all decode steps of all texts of an arm."
    return _scrolling(
        f"<table><caption>{caption}</caption>"
        f'<thead><tr><th scope="col">mechanism</th>{head}</tr></thead>{"".join(groups)}</table>',
        f"All arms, {heading}",
    )


def _kinds(arms: Sequence[ArmSummary], heading: str) -> str:
    sizes: dict[str, int] = {}
    for arm in arms:
        for kind in arm.kinds:
            sizes[kind.kind] = max(sizes.get(kind.kind, 0), kind.n_problems)
    if len(sizes) < 2:
        return ""
    names = sorted(sizes)
    head = "".join(f'<th scope="col">{_text(name or "other")}<br>({sizes[name]} problems)</th>' for name in names)
    groups = []
    for budget, members in groupby(arms, key=wording.budget_heading):
        rows = [f'<tr><th scope="rowgroup" colspan="{len(names) + 1}">{_text(budget)}</th></tr>']
        for arm in members:
            by_kind = {kind.kind: kind.accuracy for kind in arm.kinds}
            cells = "".join(f"<td>{wording.percent(by_kind.get(name))}</td>" for name in names)
            rows.append(f'<tr><th scope="row">{_text(arm.mechanism)}</th>{cells}</tr>')
        groups.append(f"<tbody>{''.join(rows)}</tbody>")
    return "<h3>Accuracy by kind of problem, %</h3>" + _scrolling(
        f'<table><thead><tr><th scope="col">mechanism</th>{head}</tr></thead>{"".join(groups)}</table>',
        f"Accuracy by kind, {heading}",
    )


def _scrolling(table: str, label: str) -> str:
    return f'<div class=scroll role="region" tabindex="0" aria-label="{_text(label)}">{table}</div>'


def _how_to_read(tolerance: float) -> str:
    return f"""<section><h2>How to read this</h2><ul>
<li>An <b>event</b> is one cut of a text's cache: tokens are evicted until the size that the mechanism's cadence asks for.</li>
<li>A <b>budget</b> is a number of tokens per layer and KV head that decode steps attend to. A plain number is the mean over
the steps after the first event of a text; <i>nominal</i> is the size right after an event, <i>peak</i> the largest size, and
<i>in bytes</i> the mean bytes of that many tokens in full precision.</li>
<li>The <b>mean cache</b> is the mean over all decode steps, also those before the first event, when the cache is still
filling. Short texts therefore stay below the budget. The <b>steady mean</b> counts only the steps after the first event.</li>
<li>An arm is <b>unmatched</b> if its mean cache is more than {100 * tolerance:g} % larger or smaller than the median of the
arms with the same model, task and budget. It used another amount of memory, so its accuracy cannot be compared with theirs.
An arm without a budget is a <b>reference</b>: it shows what is reached if no token is evicted. One that evicts without a
budget, as its cache follows from the text, is unmatched.</li>
<li>Arms of one model and task are shown on the <b>problems</b> that all of them have; the heading says how many these are.
<b>Identical texts</b> to another arm mean that every text of the two is equal: whatever sets them apart did nothing here.</li>
<li><b>Prompt kept</b> is the share of the prompt's tokens that the cache still held at the end of a text: in one KV head,
averaged over all, and in at least one head of a layer, averaged over layers. Much of what sets scorings apart is this share, so
read an accuracy beside it. An arm that cut only a few texts shows no harm, and proves little.</li>
<li><b>Accuracy</b> counts the strict reading of a text, which takes an answer only where the task asks for it, such as the
last box; the <i>lenient</i> reading also takes a final-answer phrase or the last number. A text without an answer counts as
wrong. <i>Accuracy if extracted</i> leaves such texts out, so it favours arms that often give no answer.</li>
<li><b>Intervals</b> cover 95 %. They are Wilson's for one text per problem and a bootstrap over problems for several.
Overlapping intervals do not show that two arms are equal: the arms ran on the same problems, and only a paired test uses
that.</li>
<li><b>Held</b> bytes are those that the stored tokens need, not those that are reserved. <b>Auxiliary</b> bytes are what the
mechanism remembers beside them.</li>
<li><b>Tokens/s</b> is the speed of this run, and other work on the machine slows it down. To compare the speed of mechanisms,
use <code>designspace bench</code>.</li>
</ul></section>"""


def _environment(environment: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in environment.items())
    return f"<section><h2>Environment</h2><dl>{items}</dl></section>" if items else ""
