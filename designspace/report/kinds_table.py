"""Accuracy by kind of problem, as a table of the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from designspace.report import wording
from designspace.report.markup import head, name, scrolling, text
from designspace.report.summary import ArmSummary

_ABREAST = 8  # kinds in one table, so that it fits a sheet of paper


def kinds_tables(arms: Sequence[ArmSummary], heading: str) -> str:
    """Return the tables of the arms of one place, empty where their problems are of one kind."""
    sizes: dict[str, int] = {}
    for arm in arms:
        for kind in arm.kinds:
            sizes[kind.kind] = max(sizes.get(kind.kind, 0), kind.n_problems)
    if len(sizes) < 2:
        return ""
    tables = []
    for kinds in (sorted(sizes)[at : at + _ABREAST] for at in range(0, len(sizes), _ABREAST)):
        titles = {f"{kind or 'other'} ({sizes[kind]} problems)": False for kind in kinds}
        body = "".join(_group(list(members), kinds) for _, members in groupby(arms, key=wording.budget_heading))
        table = f"<table>{head(titles, 'mechanism')}{body}</table>"
        tables.append(scrolling(table, f"Accuracy by kind, {heading}"))
    return f"<h3>Accuracy by kind of problem, %</h3>{''.join(tables)}"


def _group(arms: Sequence[ArmSummary], kinds: Sequence[str]) -> str:
    rows = [f'<tr><th scope="rowgroup" colspan="{len(kinds) + 1}">{text(wording.budget_heading(arms[0]))}</th></tr>']
    for arm in arms:
        by_kind = {kind.kind: kind.accuracy for kind in arm.kinds}
        cells = "".join(f"<td>{wording.percent(by_kind.get(kind))}</td>" for kind in kinds)
        rows.append(f'<tr><th scope="row">{name(arm.mechanism)}</th>{cells}</tr>')
    return f"<tbody>{''.join(rows)}</tbody>"
