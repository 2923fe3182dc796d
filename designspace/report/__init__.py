"""The report: summaries of arms, their notes, tables in the terminal, one HTML file."""

from designspace.report.completions import export_completions
from designspace.report.html import write_report
from designspace.report.labels import relabelled
from designspace.report.notes import notes
from designspace.report.summary import ArmSummary, KindAccuracy, summarise, to_json
from designspace.report.terminal import print_report

__all__ = [
    "ArmSummary",
    "KindAccuracy",
    "export_completions",
    "notes",
    "print_report",
    "relabelled",
    "summarise",
    "to_json",
    "write_report",
]
