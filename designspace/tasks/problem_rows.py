"""From rows of a file or of the hub to problems: one strict reader for all tasks.

A row must have a problem, and a gold answer where the grader needs one: text or a number, not empty, not null. Ids are
unique; where rows have none, the line's number makes one. Columns go by the names in use on the hub unless the declaration
names others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError, did_you_mean
from designspace.tasks.grading.grader import Grader
from designspace.tasks.json_lines import Line, Numeral, read_json_lines
from designspace.tasks.problem import Problem
from designspace.tasks.prompts import letter_of, with_choices

# The columns that are looked for, in this order, where the declaration names none.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "unique_id", "problem_id", "task_id"),
    "problem": ("problem", "question", "prompt"),
    "answer": ("answer", "answerKey", "gold", "target", "solution"),
    "kind": ("kind", "subject", "category"),
    "choices": ("choices", "options"),
    "solution": (),  # read only where the declaration names its column
}
_MOST_CHOICES = 26
_MOST_FAULTS = 5  # that are named; a file that breaks a rule everywhere says enough with these


def problems_of_file(path: str, grader: Grader, *, name: str, fields: Mapping[str, str] | None = None) -> list[Problem]:
    """Return the problems of a JSON Lines file, prompts not yet rendered.

    fields: the file's own column for `id`, `problem`, `answer`, `kind`, `choices` or `solution`.

    Raises:
        DeclarationError: with every fault of the file, at most five of them named, each as `file:line: rule, got …`.
    """
    return problems_of_rows(read_json_lines(path), grader, source=path, name=name, fields=fields or {})


def problems_of_rows(
    lines: Sequence[Line], grader: Grader, *, source: str, name: str, fields: Mapping[str, str]
) -> list[Problem]:
    """Return the problems of rows; `source` stands before the line's number in messages.

    Raises:
        DeclarationError: as `problems_of_file`.
    """
    if not lines:
        raise DeclarationError(f"{source}: a task needs at least one problem, the file has none")
    columns = {ours: _columns(ours, fields) for ours in COLUMNS}
    problems, faults, seen = [], [], dict[str, int]()
    for line in lines:
        try:
            problem = _problem(line, columns, grader, name)
            if problem.problem_id in seen:
                first = seen[problem.problem_id]
                raise _Fault(f"id {problem.problem_id!r} must be unique, line {first} has it too")
            seen[problem.problem_id] = line.number
            problems.append(problem)
        except _Fault as fault:
            faults.append(f"{source}:{line.number}: {fault}")
    if faults:
        more = [f"{source}: {len(faults) - _MOST_FAULTS} more lines break a rule"] if len(faults) > _MOST_FAULTS else []
        raise DeclarationError([*faults[:_MOST_FAULTS], *more])
    return problems


class _Fault(Exception):
    """What is wrong with one row."""


def _columns(ours: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    return (fields[ours],) if ours in fields else COLUMNS[ours]


def _problem(line: Line, columns: Mapping[str, tuple[str, ...]], grader: Grader, name: str) -> Problem:
    row = line.data
    question = _text(row, columns["problem"], required=True)
    identifier = _text(row, columns["id"]) or f"{name}-{line.number:05d}"
    choices = _choices(row, columns["choices"]) if grader.kind == "choice" else ()
    listed = _listed(row, columns["answer"]) if grader.takes_lists else None
    gold = listed or (_gold(row, columns["answer"], choices) if grader.needs_gold else "")
    if grader.needs_gold and (reason := grader.gold_error(gold)) is not None:
        raise _Fault(reason)
    solution = _text(row, columns["solution"], required=bool(columns["solution"]))
    return Problem(identifier, with_choices(question, choices), gold, _text(row, columns["kind"]), solution)


def _listed(row: Mapping[str, Any], columns: tuple[str, ...]) -> str | None:
    """Return a list of answers as the one gold that it makes, None where the row has no list."""
    value = _value(row, columns)
    if not isinstance(value, list):
        return None
    if not value or not all(isinstance(answer, str) and answer.strip() and _is_unicode(answer) for answer in value):
        raise _Fault(f"answer must be a list of texts that are not empty, got {value!r:.60}")
    return canonical_json(value)


def _gold(row: Mapping[str, Any], columns: tuple[str, ...], choices: tuple[str, ...]) -> str:
    answer = _text(row, columns, required=True)
    if choices:
        return _chosen(answer, choices, is_number=isinstance(_value(row, columns), Numeral))
    before, marker, after = answer.rpartition("####")  # GSM8K's own column: the solution, then the number
    return after.strip().replace(",", "") if marker and before.strip() else answer


def _chosen(answer: str, choices: tuple[str, ...], *, is_number: bool) -> str:
    """Return the gold `(B) words`; answer: a letter, an index from 0, or the words of an option."""
    letters = [letter_of(index) for index in range(len(choices))]
    label = answer.strip(" ().:")
    if label in letters:
        index = letters.index(label)
    elif is_number and answer.isdecimal() and int(answer) < len(choices):
        index = int(answer)
    elif choices.count(answer) == 1:
        index = choices.index(answer)
    else:
        raise _Fault(f"answer must be a letter, an index or the words of one of {len(choices)} choices, got {answer!r}")
    return f"({letters[index]}) {choices[index]}"


def _choices(row: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    found = _value(row, columns)
    if isinstance(found, Mapping):  # `{text: […], label: […]}` on the hub
        found = found.get("text")
    if found is None:
        return ()
    if not isinstance(found, Sequence) or isinstance(found, str) or not 2 <= len(found) <= _MOST_CHOICES:
        raise _Fault(f"choices must be a list of 2 to {_MOST_CHOICES} texts, got {found!r:.60}")
    if not all(isinstance(choice, str) and choice.strip() for choice in found):
        raise _Fault(f"choices must be texts that are not empty, got {found!r:.60}")
    return tuple(str(choice).strip() for choice in found)


def _value(row: Mapping[str, Any], columns: Iterable[str]) -> Any:
    return next((row[column] for column in columns if column in row), None)


def _text(row: Mapping[str, Any], columns: tuple[str, ...], *, required: bool = False) -> str:
    """Return a column as text; a number keeps its digits. Empty where the row has none and none is required."""
    column = next((column for column in columns if column in row), None)
    if column is None:
        if required:
            near = did_you_mean(columns[0], row)
            raise _Fault(f"needs {' or '.join(columns)}{near}")
        return ""
    value = row[column]
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise _Fault(f"{column} must be text that is not empty, or a number, got {value!r:.60}")
    if not _is_unicode(value):
        raise _Fault(f"{column} holds half of a character (a lone surrogate), which cannot be stored")
    return str(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
