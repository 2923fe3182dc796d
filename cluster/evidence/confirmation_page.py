"""The page of a confirmation, beside its report: the same page as of any study, with what was registered at its head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from designspace.environment import environment
from designspace.report import table_report, write_report
from designspace.report.asked import Asked
from designspace.report.page_occupancy import page_occupancy
from designspace.report.page_problems import problems_data


def write_confirmation_page(
    path: Path, report: Mapping[str, Any], registration: Mapping[str, Any], rows: pa.Table, results: Path
) -> None:
    """Write the page of a sealed report.

    Args:
        path: of the page.
        report: as it was sealed.
        registration: the document that it answers.
        rows: what it was made of, joined with their grades.
        results: their folder, for the commands that the page names.

    Raises:
        StoreError: the file system refused.
    """
    study = registration["study"]
    write_report(
        table_report(rows, registration["tolerance"]),
        path,
        title=f"{study}: confirmation",
        environment=environment(),
        asked=Asked(source=registration["source"]),
        evidence=(report, registration),
        problems=problems_data(rows, study, str(results)),
        occupancy=page_occupancy(rows),
    )
