"""Grading of model answers: extraction, equality, and measurement on labelled cases."""

from designspace.tasks.grading.choice_grader import ChoiceGrader
from designspace.tasks.grading.code_grader import CodeGrader, completion_of
from designspace.tasks.grading.contains_grader import ContainsGrader
from designspace.tasks.grading.exact_grader import ExactGrader
from designspace.tasks.grading.extraction import Extraction, extract_lenient, extract_strict
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.integer_grader import IntegerGrader
from designspace.tasks.grading.labelled_cases import CaseReport, CasesError, grade_cases
from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.grading.regex_grader import RegexGrader

__all__ = [
    "CaseReport",
    "CasesError",
    "ChoiceGrader",
    "CodeGrader",
    "ContainsGrader",
    "ExactGrader",
    "Extraction",
    "Grade",
    "GradeStatus",
    "Grader",
    "IntegerGrader",
    "MathGrader",
    "Reading",
    "RegexGrader",
    "completion_of",
    "extract_lenient",
    "extract_strict",
    "grade_cases",
]
