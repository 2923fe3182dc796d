"""Grading of model answers: extraction, equivalence in a sandbox, and measurement on labelled cases."""

from designspace.tasks.grading.extraction import Extraction, extract_lenient, extract_strict
from designspace.tasks.grading.grader import GRADER_ID, Grade, Grader, GradeStatus
from designspace.tasks.grading.labelled_cases import CaseReport, CasesError, grade_cases

__all__ = [
    "GRADER_ID",
    "CaseReport",
    "CasesError",
    "Extraction",
    "Grade",
    "GradeStatus",
    "Grader",
    "extract_lenient",
    "extract_strict",
    "grade_cases",
]
