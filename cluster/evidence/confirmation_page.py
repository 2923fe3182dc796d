"""The page of a confirmation, beside its report: the same page as of any study, with what was registered at its head."""

from __future__ import annotations

from pathlib import Path

from cluster.evidence.folder import EvidenceFolder, opened
from designspace.environment import environment
from designspace.protocol.registration import read_json
from designspace.report import table_report, write_report
from designspace.report.asked import Asked
from designspace.report.page_occupancy import page_occupancy
from designspace.report.page_problems import problems_data


def write_confirmation_page(report_path: Path, graders: set[str]) -> Path:
    """Write the page of a sealed report next to it, and return its path. The rows are those of the report.

    graders: ids of those whose grades count.

    Raises:
        ProtocolError: the report's registration does not stand in its ledger.
        StoreError: the file system refused.
    """
    report = read_json(report_path, "report")
    folder, registered = opened(EvidenceFolder.around(report_path).file(str(report["registration"]), "registration"))
    rows = folder.rows(set(report["rows"]["cells"]), graders=graders)
    document = registered.document
    return write_report(
        table_report(rows, document["tolerance"]),
        report_path.with_suffix(".html"),
        title=f"{document['study']}: confirmation",
        environment=environment(),
        asked=Asked(source=document["source"]),
        evidence=(report, document),
        problems=problems_data(rows, document["study"], str(folder.results)),
        occupancy=page_occupancy(rows),
    )
