"""Tables of all columns in blocks that fit a page's width: for paper, and where no script runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

from designspace.report import wording
from designspace.report.columns import Column
from designspace.report.markup import head, name, scrolling, text
from designspace.report.summary import ArmSummary

_Arm = TypeVar("_Arm")


def block_tables(
    arms: Sequence[_Arm], columns: Sequence[Column[_Arm]], cache: Callable[[_Arm], ArmSummary], label: str
) -> str:
    """Return one table for each block of columns, arms below the headings of their budgets.

    cache: the labels of an arm. label: says which arms these are.
    """
    blocks: dict[str, list[Column[_Arm]]] = {}
    for column in columns:
        blocks.setdefault(column.block, []).append(column)
    tables = []
    for index, (block, of_block) in enumerate(blocks.items(), start=1):
        caption = f"<caption>{text(block)} ({index} of {len(blocks)})</caption>"
        body = "".join(_group(list(members), of_block, cache) for _, members in _by_budget(arms, cache))
        table = f"<table>{caption}{head({column.heading: column.in_words for column in of_block}, 'mechanism')}{body}</table>"
        tables.append(scrolling(table, f"{block}, {label}"))
    return f"<div class=blocks>{''.join(tables)}</div>"


def _by_budget(arms: Sequence[_Arm], cache: Callable[[_Arm], ArmSummary]) -> groupby[str, _Arm]:
    return groupby(arms, key=lambda arm: wording.budget_heading(cache(arm)))


def _group(arms: Sequence[_Arm], columns: Sequence[Column[_Arm]], cache: Callable[[_Arm], ArmSummary]) -> str:
    budget = wording.budget_heading(cache(arms[0]))
    rows = [f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}">{text(budget)}</th></tr>']
    for arm in arms:
        cells = "".join(_cell(column, arm) for column in columns)
        state = ' class="unmatched"' if cache(arm).comparison == "unmatched" else ""
        rows.append(f'<tr{state}><th scope="row">{name(cache(arm).mechanism)}</th>{cells}</tr>')
    return f"<tbody>{''.join(rows)}</tbody>"


def _cell(column: Column[_Arm], arm: _Arm) -> str:
    return f"<td{' class=words' if column.in_words else ''}>{text(column.show(arm))}</td>"
