"""What a report reads of the store: not the token ids of texts, nor what teacher forcing knows of each token."""

from __future__ import annotations

from designspace.protocol.showing import COLUMNS as SHOWN_BY
from designspace.report.arm_rows import AT_HAND, COLUMNS
from designspace.report.page_problems import BROWSED


def report_columns() -> list[str]:
    """Return the columns that the table, the page and its problem browser are made of, and what says who may see them."""
    return list(dict.fromkeys(["study", *COLUMNS, *AT_HAND, *SHOWN_BY, *BROWSED, "engine_version"]))
