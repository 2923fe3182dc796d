"""What `pytest --changed` leaves out: files that take long and strategies' conformance, but for what has changed.

Changed is what differs from the branch that this one is pushed to (without one: from the last commit), new files included.
A test file runs if it is not among `LONG`, or if it or the file that it mirrors has changed. Of the conformance kit's cases
those run whose strategy has changed, or a file of families that it is made with; if none has, a few for each axis.
"""

from __future__ import annotations

import ast
import subprocess
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from designspace.axes import Mechanism, Strategy
from designspace.registry import mechanism

REPOSITORY = Path(__file__).parent.parent
KIT = "tests/designspace/testing/test_registered.py"
# Test files that take more than about two seconds of one core, by folder.
LONG = {
    "tests": ("extras", "questions", "readme"),
    "tests/benchmarks": ("fidelity_predicts", "memory", "random_model", "refill", "sides"),
    "tests/cluster": (
        "bundles", "crash", "design_power", "evidence", "fed_texts", "inline", "plug_in_package", "preflight", "prompt_check",
        "ray_session", "run", "texts_that_do_not_fit", "two_runs", "worker",
    ),
    "tests/designspace/axes": ("window",),
    "tests/designspace/cli": (
        "cli", "plan_says_what_run_would", "pressed_twice", "query_and_export", "reports", "same_mistake_same_code",
    ),
    "tests/designspace/engine": ("captured_step", "decode_step", "device", "engine", "protect", "sentences", "speed"),
    "tests/designspace/memory": ("footprint",),
    "tests/designspace/models": ("config_file", "layer_rotations", "proof"),
    "tests/designspace/protocol": ("analysis", "cheats"),
    "tests/designspace/query": ("results", "sql"),
    "tests/designspace/statistics": (
        "axis_effects", "corrections", "equivalence", "error_rates", "lattice", "power",
    ),
    "tests/designspace/store": ("crash", "examine", "harm", "leases", "mending", "results_store"),
    "tests/designspace/tasks/grading": ("equality", "exactness", "labelled_cases", "sandbox"),
    "tests/designspace/testing": ("composition", "pytest_class", "tasks_and_graders"),
    "tests/docs": ("examples", "generated", "site", "tutorial"),
    "tests/families": ("idle_reasons",),
    "tests/families/cadence": ("adaptive", "horizon"),
    "tests/families/decoding": ("pocket", "refresh", "rollback", "self_consistency", "teacher_forced", "wrapped_decoding"),
    "tests/families/head_routing": ("kv_sharer",),
    "tests/families/representation": (
        "cam", "d2o", "mini_kv", "nearest_merge", "quest", "span_mean", "store_promises", "turbo_quant",
    ),
    "tests/families/scoring": ("lazy_eviction", "scissorhands"),
    "tests/fuzz": ("declarations", "model_configs", "problem_files"),
    "tests/golden": ("e2e", "statistics"),
    "tests/notebooks": ("notebooks",),
    "tests/sweeps": ("auto_rows", "broken", "effects", "robustness", "tuning"),
}  # fmt: skip
LONG_FILES = frozenset(f"{folder}/test_{name}.py" for folder, names in LONG.items() for name in names)
# Conformance cases that run where no strategy has changed, and of the systems of a changed one how many.
SAMPLE = frozenset({
    "scoring.h2o", "selector.mmr", "head_routing.ada-kv", "cadence.every-k", "representation.kivi", "decoding.sampling",
    "snapkv",
})  # fmt: skip
MOST_SYSTEMS = 8


@cache
def changed_files() -> frozenset[str]:
    """Return the changed files, relative to the repository; none outside a git checkout."""
    base = _git("merge-base", "HEAD", "@{upstream}") or ["HEAD"]
    return frozenset([*_git("diff", "--name-only", base[0]), *_git("ls-files", "--others", "--exclude-standard")])


def is_left_out(file: Path) -> bool:
    """Return whether a test file need not even be read."""
    name = file.relative_to(REPOSITORY).as_posix()
    mirrored = name.removeprefix("tests/").replace("/test_", "/")
    return name in LONG_FILES and not {name, mirrored} & changed_files()


def unchanged_cases(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the conformance cases that need not run."""
    subjects = {item: subject for item in items if (subject := _subject(item)) is not None}
    touched = [item for item, subject in subjects.items() if _files_of(subject) & changed_files()]
    systems = [item for item in touched if isinstance(subjects[item], Mechanism)]
    kept = {*touched} - {*systems[MOST_SYSTEMS:]} or {item for item in subjects if item.callspec.id in SAMPLE}
    return [item for item in subjects if item not in kept]


def _subject(item: Any) -> Strategy | Mechanism | None:
    """Return what a conformance case is about, None for another test."""
    parameters = item.callspec.params if item.nodeid.startswith(KIT) and hasattr(item, "callspec") else {}
    return mechanism(parameters["name"]) if "name" in parameters else parameters.get("subject")


def _files_of(subject: Strategy | Mechanism) -> frozenset[str]:
    """Return the files of the strategies that a system, or a strategy with others inside it, is made of."""
    if isinstance(subject, Mechanism):
        return frozenset().union(*map(_files_of, subject.strategies().values()))
    own = [_with_imports(kind.__module__) for kind in type(subject).__mro__]
    inner = [getattr(subject, f.name) for f in fields(subject)]
    return frozenset().union(*own, *(_files_of(part) for part in inner if isinstance(part, Strategy)))


@cache
def _with_imports(module: str) -> frozenset[str]:
    """Return a module's file and those of families that it imports, directly or not."""
    file = REPOSITORY / f"{module.replace('.', '/')}.py"
    if not module.startswith("families.") or not file.is_file():
        return frozenset()
    imports = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    return frozenset({file.relative_to(REPOSITORY).as_posix()}.union(*map(_with_imports, filter(None, imports))))


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []
