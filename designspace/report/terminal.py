"""The report as tables in a terminal, readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from designspace.report import wording
from designspace.report.fidelity import ArmFidelity
from designspace.report.summary import ArmSummary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_report(
    arms: Sequence[ArmSummary],
    notes: Sequence[str] = (),
    console: Console | None = None,
    *,
    missing: Sequence[str] = (),
    fidelity: Sequence[ArmFidelity] = (),
) -> None:
    """Print what is missing, one table per model and task split, and the notes.

    Args:
        arms: what `summarise` returned.
        notes: warnings to print below.
        console: where to; by default the standard output, without colour codes when that is no terminal.
        missing: what to say first, because no number can be read without it.
        fidelity: of arms that were fed their texts, in tables of their own below the others.
    """
    from rich.console import Console

    console = console or Console()
    _print_lines(missing, console)
    if not (arms or fidelity):
        console.print("no rows yet")
    for table in (*tables(arms), *fidelity_tables(fidelity)):
        console.print(table)
    _print_lines(notes, console)


def _print_lines(lines: Sequence[str], console: Console) -> None:
    from rich.text import Text

    for line in lines:
        console.print(Text(f"! {wording.printable(line)}"), soft_wrap=False)


def tables(arms: Sequence[ArmSummary]) -> list[Table]:
    """Return one rich table per model and task split, with a section per budget."""
    places = [list(members) for _, members in groupby(arms, key=lambda arm: arm.place)]
    return [_table(wording.place_heading(members), members) for members in places]


def _table(title: str, arms: Sequence[ArmSummary]) -> Table:
    caption = (
        "In percent: accuracy (acc.), 95 % interval, texts with an answer (extr.), texts whose cache was cut (cut), prompt "
        "tokens that a head holds at the end (prompt). Mean cache in tokens per (layer, KV head); len: new tokens "
        "per text."
    )
    sections = ((heading, map(_cells, members)) for heading, members in groupby(arms, key=wording.budget_heading))
    return _sections(title, caption, ("acc.", "interval", "extr.", "cut", "prompt", "mean", "len"), sections)


def _cells(arm: ArmSummary) -> tuple[str, ...]:
    return (
        f"  {wording.printable(arm.mechanism)}",
        wording.percent(arm.accuracy),
        wording.interval(arm),
        wording.percent(arm.extraction_rate, 0),
        wording.percent(arm.event_share, 0),
        wording.percent(arm.prompt_survival_mean, 0),
        wording.number(arm.mean_cache_tokens),
        wording.number(arm.mean_new_tokens, 0),
        wording.comparison(arm),
    )


def fidelity_tables(arms: Sequence[ArmFidelity]) -> list[Table]:
    """Return one rich table of teacher-forced arms per model and task split, with a section per budget."""
    places = [list(members) for _, members in groupby(arms, key=lambda arm: arm.place)]
    return [_fidelity_table(members) for members in places]


def _fidelity_table(arms: Sequence[ArmFidelity]) -> Table:
    title = f"Fidelity · {wording.place_heading([arm.cache for arm in arms])}"
    by_budget = groupby(arms, key=lambda arm: wording.budget_heading(arm.cache))
    sections = ((heading, map(_fidelity_cells, members)) for heading, members in by_budget)
    return _sections(title, wording.FIDELITY, ("fed", "loss", "interval", "agree", "whole", "first", "mean"), sections)


def _sections(
    title: str, caption: str, headings: Sequence[str], sections: Iterable[tuple[str, Iterable[tuple[str, ...]]]]
) -> Table:
    """Return a table whose rows stand below the headings of their sections; the last column has none."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(wording.printable(title), style="bold"),
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("mechanism", overflow="fold", min_width=14)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for index, (heading, rows) in enumerate(sections):
        if index:
            table.add_section()
        table.add_row(Text(wording.printable(heading), style="bold"))
        for cells in rows:
            table.add_row(*(Text(cell) for cell in cells))
    return table


def _fidelity_cells(arm: ArmFidelity) -> tuple[str, ...]:
    return (
        f"  {wording.printable(arm.cache.mechanism)}",
        arm.of,
        f"{arm.loss_over_full:.3f}",
        wording.between(arm.loss_interval, 3),
        wording.percent(arm.agreement),
        wording.percent(arm.undisturbed, 0),
        wording.number(arm.first_disagreement, 0),
        wording.number(arm.cache.mean_cache_tokens),
        wording.comparison(arm.cache),
    )
