"""What a report reads of the store: not the token ids of texts, nor what teacher forcing knows of each token."""

from __future__ import annotations

from collections.abc import Iterable

from designspace.report.arm_rows import AT_HAND, COLUMNS
from designspace.report.page_problems import BROWSED


def report_columns(more: Iterable[str] = ()) -> list[str]:
    """Return the columns that the table, the page and its problem browser are made of, and some more, each once."""
    return list(dict.fromkeys(["study", *COLUMNS, *AT_HAND, *BROWSED, "engine_version", *more]))
