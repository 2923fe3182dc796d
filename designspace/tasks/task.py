"""A task as a record: everything that the rest of the project knows of it.

Other packages register one with a line `name = module:TASK` in the entry-point group `designspace.tasks`, and a grader of
their own with `kind = module:Class` in `designspace.graders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from designspace.tasks.grading.grader import Grader
from designspace.tasks.parameters import Parameter, Value
from designspace.tasks.problem import Problem
from designspace.tasks.prompts import PLACEHOLDER


@dataclass(frozen=True)
class TaskRequest:
    """What a task is asked for.

    Attributes:
        split: one of the task's splits.
        n_problems: how many problems are wanted, None: all; a task that generates its problems makes so many.
        path: a local file to read instead of the hub; None where the task takes none.
        grader: what will grade, so that gold answers that it cannot read are refused with their place.
        fields: columns of that file under other names than the usual ones, by ours.
        parameters: those that the task declares, each with its value.
    """

    split: str
    n_problems: int | None
    path: str | None
    grader: Grader
    fields: Mapping[str, str]
    parameters: Mapping[str, Value] = field(default_factory=dict)


def _no_conflict(_: Mapping[str, Value]) -> str | None:
    return None


@dataclass(frozen=True)
class Task:
    """How problems are loaded, split and rendered, how answers are graded, and how votes are compared.

    Attributes:
        name: what a sweep file calls it.
        splits: the names of its splits.
        load: returns the problems of a request in a fixed order, the bare problem in the place of the prompt. It raises
            `DataMissing` where the data is not here, and `DeclarationError` with `file:line` where it breaks a rule.
        grader: extracts and compares answers; its `vote` is what self-consistency counts.
        template: the text around `{problem}`; empty: the problem as it is.
        template_hash: what identifies the template in a cell; None: the SHA-256 of it.
        takes_path: whether it reads files. If not, it generates its problems, and a request says how many.
        parameters: what may be declared of it under `parameters`, by name; its problems must not depend on anything else.
        conflict: returns why values of its parameters do not go together, None if they do.
        most_problems: a bound on how many may be asked for of a task that generates them: a slip of the keyboard must not
            cost minutes.
        is_fed: whether its solutions are what is measured, fed by teacher forcing; a text of a model's own answers nothing.
        summary: one line for `designspace list`.
        metric: what an arm's outcome on it is called; the mean of correct answers is the only one so far.
    """

    name: str
    splits: tuple[str, ...]
    load: Callable[[TaskRequest], list[Problem]]
    grader: Grader
    template: str = PLACEHOLDER
    template_hash: str | None = None
    takes_path: bool = False
    parameters: Mapping[str, Parameter] = field(default_factory=dict, hash=False)
    conflict: Callable[[Mapping[str, Value]], str | None] = _no_conflict
    most_problems: int = 100_000
    is_fed: bool = False
    summary: str = ""
    metric: str = "accuracy"
