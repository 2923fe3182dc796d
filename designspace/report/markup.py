"""Pieces of HTML that several parts of the report's page are made of.

Labels and model text are untrusted: whatever is not markup of these modules goes through `text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from designspace.report import wording

_UNFOLDED = 8  # notes that are read without a click


def text(value: object) -> str:
    """Return anything as text of a page, or of an attribute in double quotes."""
    return escape(wording.printable(str(value)))


def name(label: object) -> str:
    """Return a label that may be wrapped where its parts meet, and nowhere else unless it must."""
    found = text(label)
    for joint in "/+,":
        found = found.replace(joint, f"{joint}<wbr>")
    return found


def bullets(heading: str, lines: Sequence[str], kind: str = "notes") -> str:
    """Return a section of whole sentences, empty where there are none; what is beyond a screenful is folded."""
    if not lines:
        return ""
    more = lines[_UNFOLDED:]
    n = f"{len(more)} more note{'s' if len(more) != 1 else ''}"
    folded = f"<details><summary>{n}</summary>{_list(more)}</details>" if more else ""
    return f'<section class="{kind}"><h2>{text(heading)}</h2>{_list(lines[:_UNFOLDED])}{folded}</section>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def scrolling(table: str, label: str) -> str:
    """Return a table that scrolls by itself where the page is narrower, reachable by keyboard."""
    return f'<div class=scroll role="region" tabindex="0" aria-label="{text(label)}">{table}</div>'


def head(columns: Mapping[str, bool], first: str) -> str:
    """Return the head of a table.

    columns: headings, each with whether its column holds words. first: heading of the names of its rows.
    """
    cells = "".join(
        f'<th scope="col"{" class=words" if in_words else ""}>{text(column)}</th>'
        for column, in_words in columns.items()
    )
    return f'<thead><tr><th scope="col">{text(first)}</th>{cells}</tr></thead>'


def facts(pairs: Mapping[str, object]) -> str:
    """Return names and values as a list, empty where there are none."""
    items = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in pairs.items())
    return f"<dl>{items}</dl>" if items else ""
