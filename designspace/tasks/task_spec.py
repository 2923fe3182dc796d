"""A declared task split: which problems, how they are put to a model, and what grades the answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from designspace.errors import DeclarationError, UnknownName
from designspace.tasks import lookup
from designspace.tasks.chat_arguments import ChatArguments
from designspace.tasks.file_task import file_task
from designspace.tasks.grading.grader import Grader
from designspace.tasks.parameters import Value, faults, filled
from designspace.tasks.problem import Problem, content_hash
from designspace.tasks.problem_rows import COLUMNS
from designspace.tasks.prompts import render, template_of
from designspace.tasks.task import Task, TaskRequest

Chat = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class TaskSpec:
    """A task split.

    Attributes:
        problems: limits it to the first n. path: a local JSON Lines file instead of the hub.
        answer: what grades, in the place of the task's own grader. With a path it makes a task of one's own of any name.
        prompt: `boxed-suffix`, `answer-colon`, `none`, or a text with `{problem}` in it; None: the task's own.
        system: a system message, for models with a chat template.
        chat: whether prompts go through the model's chat template; `auto`: where it has one.
        fields: columns of the file under other names, as pairs of our name and the file's.
        chat_arguments: what the template is given beside the messages, such as `enable_thinking`.
        of: the task that this one is, where `name` is a label of one's own.
        parameters: of a task that generates its problems, as pairs of name and value; those left out have their defaults.
        prompt_room: the longest prompt, in tokens, that caches have room for; None: that of these problems. Room is part of
            what fixes a row's numbers, so a number here is what lets more problems leave the rows of the first ones as they
            are.
    """

    name: str
    split: str = "dev"
    problems: int | None = None
    path: str | None = None
    answer: Grader | None = None
    prompt: str | None = None
    system: str | None = None
    chat: Chat = "auto"
    fields: tuple[tuple[str, str], ...] = ()
    chat_arguments: ChatArguments = field(default_factory=ChatArguments)
    prompt_room: int | None = None
    of: str | None = None
    parameters: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        """Check the declaration; no data is read.

        Raises:
            UnknownName: no such task, split, field or parameter.
            DeclarationError: a number of problems below 1, a path for a generated task, a prompt without a place for the
                problem, or a system message or arguments of a template without chat.
        """
        if self.split not in self.task.splits:
            raise UnknownName(f"split of task {self.name!r}", self.split, self.task.splits)
        for ours, _ in self.fields:
            if ours not in COLUMNS:
                raise UnknownName("field of a problem", ours, COLUMNS)
        for name, _ in self.parameters:
            if name not in self.task.parameters:
                raise UnknownName(f"parameter of task {self.task.name!r}", name, self.task.parameters)
        broken = [*self._broken_numbers(), *self._broken_texts(), *self._broken_parameters()]
        if broken:
            raise DeclarationError(broken)
        self.template  # noqa: B018 - refuses a prompt that has no place for the problem

    def _broken_numbers(self) -> list[str]:
        generates = not self.task.takes_path
        broken = []
        if self.problems is not None and self.problems < 1:
            broken.append(f"problems must be at least 1, got problems={self.problems}")
        if self.prompt_room is not None and self.prompt_room < 1:
            broken.append(f"prompt_room must be at least 1, got prompt_room={self.prompt_room}")
        if generates and self.problems is not None and self.problems > self.task.most_problems:
            broken.append(f"problems must be at most {self.task.most_problems:,}, got problems={self.problems}")
        if generates and self.path is not None:
            broken.append(f"task {self.name!r} generates its problems and takes no path, got path={self.path!r}")
        if generates and self.problems is None:
            broken.append(f"task {self.name!r} generates its problems: say how many, e.g. problems: 64")
        return broken

    def _broken_parameters(self) -> list[str]:
        broken = list(faults(self.task.parameters, dict(self.parameters)))
        if not broken and (conflict := self.task.conflict(filled(self.task.parameters, dict(self.parameters)))):
            broken.append(f"task {self.name!r}: {conflict}")
        return broken

    def _broken_texts(self) -> list[str]:
        broken = []
        if not self.task.takes_path and (self.prompt is not None or self.answer is not None or self.fields):
            broken.append(f"task {self.name!r} generates its problems and takes no prompt, answer or fields")
        if self.system is not None and self.chat == "off":
            broken.append("system is part of a chat, got chat=off")
        if self.chat_arguments and self.chat == "off":
            broken.append("chat_arguments are a chat template's, got chat=off")
        return broken

    @property
    def task(self) -> Task:
        """What the name stands for."""
        if (
            self.of is None
            and self.name not in lookup.task_names()
            and self.path is not None
            and self.answer is not None
        ):
            return file_task(self.name, self.answer)
        return lookup.task(self.of or self.name)

    @property
    def grader(self) -> Grader:
        """What extracts, compares and votes."""
        return self.task.grader if self.answer is None else self.answer

    @property
    def template(self) -> str:
        """The text around each problem."""
        return self.task.template if self.prompt is None else template_of(self.prompt)

    @property
    def template_hash(self) -> str:
        """What identifies the prompt template."""
        if self.prompt is None and self.task.template_hash is not None:
            return self.task.template_hash
        return hashlib.sha256(self.template.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return what of the declaration can change a result, the problems themselves apart."""
        found: dict[str, Any] = {"name": self.name, "split": self.split, "template": self.template_hash}
        # What is as it ever was stays out, so that older results keep their ids.
        if self.system is not None:
            found["system"] = self.system
        if self.chat != "auto":
            found["chat"] = self.chat
        if self.chat_arguments:
            found["chat_arguments"] = self.chat_arguments.values
        if self.prompt_room is not None:
            found["prompt_room"] = self.prompt_room
        return found

    @property
    def framing(self) -> dict[str, Any]:
        """What a model's `encode` is told beside the prompt."""
        return {"system": self.system, "chat": self.chat, "arguments": self.chat_arguments.values}

    def load(self) -> list[Problem]:
        """Return the problems in order, prompts rendered.

        Raises:
            DataMissing: the data is not here.
            DesignspaceError: it cannot be read, or holds fewer problems than asked for.
        """
        return list(_load(self))

    def content_hash(self) -> str:
        """Return the SHA-256 over the loaded problems."""
        return _content_hash(self)


@cache
def _load(spec: TaskSpec) -> tuple[Problem, ...]:
    parameters = filled(spec.task.parameters, dict(spec.parameters))
    request = TaskRequest(spec.split, spec.problems, spec.path, spec.grader, dict(spec.fields), parameters)
    problems = spec.task.load(request)
    if spec.problems is not None:
        if len(problems) < spec.problems:
            raise DeclarationError(
                f"task {spec.name!r} split {spec.split!r} has {len(problems)} problems, got problems={spec.problems}"
            )
        problems = problems[: spec.problems]
    return tuple(replace(problem, prompt=render(spec.template, problem.prompt)) for problem in problems)


@cache
def _content_hash(spec: TaskSpec) -> str:
    return content_hash(_load(spec))


def forget_problems() -> None:
    """Read every task's file again when it is next asked for: it may have changed under this process."""
    _load.cache_clear()
    _content_hash.cache_clear()
