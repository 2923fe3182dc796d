"""The report: one study's arms in numbers, their notes, tables in the terminal, one HTML file."""

from designspace.report.completions import export_completions
from designspace.report.contrasts import Contrast, contrasts, default_against
from designspace.report.declared import Declared, declared_study
from designspace.report.fidelity import ArmFidelity, fidelity
from designspace.report.html import write_report
from designspace.report.labels import relabelled
from designspace.report.notes import notes
from designspace.report.study_report import StudyReport, study_report, table_report
from designspace.report.summary import ArmSummary, KindAccuracy, summarise, to_json
from designspace.report.terminal import print_report

__all__ = [
    "ArmFidelity",
    "ArmSummary",
    "Contrast",
    "Declared",
    "KindAccuracy",
    "StudyReport",
    "contrasts",
    "declared_study",
    "default_against",
    "export_completions",
    "fidelity",
    "notes",
    "print_report",
    "relabelled",
    "study_report",
    "summarise",
    "table_report",
    "to_json",
    "write_report",
]
