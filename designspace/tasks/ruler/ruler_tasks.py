"""The records of RULER's tasks, and which of the benchmark's names they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from designspace.tasks.generated_splits import SPLIT_BUCKETS, problems_of
from designspace.tasks.grading.contains_grader import ContainsGrader
from designspace.tasks.parameters import Parameter, Value
from designspace.tasks.problem import Problem
from designspace.tasks.ruler.chain_problems import CHAIN_PARAMETERS, chain_conflict, chain_problem
from designspace.tasks.ruler.needle_problems import needle_conflict, needle_parameters, needle_problem
from designspace.tasks.ruler.word_problems import (
    COMMON_PARAMETERS,
    FREQUENT_PARAMETERS,
    common_conflict,
    common_problem,
    frequent_problem,
)
from designspace.tasks.task import Task, TaskRequest

Draw = Callable[[str, str, int, Mapping[str, Value]], Problem]

# What a declaration must say to ask for a task of the benchmark; its essays are our made-up prose.
RULER_NAMES: Mapping[str, tuple[str, Mapping[str, Value]]] = {
    "niah_single_1": ("ruler-niah-single", {}),
    "niah_single_2": ("ruler-niah-single", {"haystack": "text"}),
    "niah_single_3": ("ruler-niah-single", {"haystack": "text", "value": "uuids"}),
    "niah_multikey_1": ("ruler-niah-multikey", {}),
    "niah_multikey_2": ("ruler-niah-multikey", {"haystack": "needles", "keys": 1}),
    "niah_multikey_3": ("ruler-niah-multikey", {"haystack": "needles", "keys": 1, "key": "uuids", "value": "uuids"}),
    "niah_multivalue": ("ruler-niah-multivalue", {}),
    "niah_multiquery": ("ruler-niah-multiquery", {}),
    "vt": ("ruler-variable-tracking", {}),
    "cwe": ("ruler-common-words", {}),
    "fwe": ("ruler-frequent-words", {}),
}


def _load(name: str, draw: Draw, request: TaskRequest) -> list[Problem]:
    def problem(split: str, index: int) -> Problem:
        return draw(name, split, index, request.parameters)

    return problems_of(name, problem, request.split, request.n_problems or 0, 0)


def _no_conflict(_: Mapping[str, Value]) -> str | None:
    return None


def _task(
    name: str,
    draw: Draw,
    parameters: Mapping[str, Parameter],
    summary: str,
    conflict: Callable[[Mapping[str, Value]], str | None] = _no_conflict,
) -> Task:
    return Task(
        name=name,
        splits=tuple(SPLIT_BUCKETS),
        load=partial(_load, name, draw),
        grader=ContainsGrader(),
        template="",
        parameters=parameters,
        conflict=conflict,
        most_problems=10_000,
        summary=f"{summary}; generated, of RULER",
    )


def _needles(name: str, parameters: Mapping[str, Parameter], summary: str) -> Task:
    return _task(name, needle_problem, parameters, summary, needle_conflict)


SINGLE = _needles("ruler-niah-single", needle_parameters("noise"), "one needle in a haystack")
MULTIKEY = _needles("ruler-niah-multikey", needle_parameters("text", keys=4), "one needle among others")
MULTIVALUE = _needles("ruler-niah-multivalue", needle_parameters("text", values=4), "all values of one key")
MULTIQUERY = _needles(
    "ruler-niah-multiquery", needle_parameters("text", keys=4, queries=4), "the values of several keys"
)
VARIABLE_TRACKING = _task(
    "ruler-variable-tracking",
    chain_problem,
    CHAIN_PARAMETERS,
    "all variables of a chain of assignments",
    chain_conflict,
)
COMMON_WORDS = _task(
    "ruler-common-words", common_problem, COMMON_PARAMETERS, "the most common words of a list", common_conflict
)
FREQUENT_WORDS = _task(
    "ruler-frequent-words", frequent_problem, FREQUENT_PARAMETERS, "the three most frequent words of a coded text"
)
