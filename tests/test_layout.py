"""The shape of the code: nothing loose at the root, one name for one file, no circles of imports, no overgrown file."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import designspace
from tests.conftest import REPOSITORY

PACKAGES = ("designspace", "families", "sweeps", "cluster")
ROOT = {
    "__init__.py",
    "__main__.py",
    "canonical.py",
    "environment.py",
    "errors.py",
    "plugins.py",
    "py.typed",
    "registry.py",
    "version.py",
}
# File names that several files may have, and why.
SHARED_NAMES = {
    "full.py": "the kind `full` is on two axes: keep all tokens, and keep them exactly",
    "grader.py": "a file of the conformance kit is named after what it checks",
    "mechanism.py": "a file of the conformance kit is named after what it checks",
    "parameters.py": "the checked parameters of strategies, and those of registered tests",
    "sampling.py": "the kind `sampling` is on two axes: draw the next token, and draw the tokens to keep",
    "speed.py": "the measurement, and the command that shows it",
    "task.py": "a file of the conformance kit is named after what it checks",
}
NO_NAMES = {"common.py", "helpers.py", "misc.py", "utils.py"}
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60
# Functions above that, which may not grow: one long list of arguments, and one long document.
LONGER = {
    ("designspace/testing/views.py", "view_of"): 78,
    ("designspace/protocol/analysis.py", "analyse"): 63,
    ("designspace/program/generate.py", "generate"): 68,
}


@cache
def trees() -> Mapping[Path, ast.Module]:
    """Return every file of the four packages, parsed, by its path within the repository."""
    files = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
    return {file.relative_to(REPOSITORY): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def module_of(file: Path) -> str:
    """Return the dotted name of a file."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield what a file imports by dotted name: at its top, within functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def edges() -> Mapping[str, frozenset[str]]:
    """Return for each file's module those of the four packages that it imports from."""
    modules = {module_of(file): tree for file, tree in trees().items()}

    def nearest(name: str) -> str:
        while name and name not in modules:  # a name within a module
            name = name.rpartition(".")[0]
        return name

    return {module: frozenset(map(nearest, imported(tree))) - {"", module} for module, tree in modules.items()}


def circles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Return the groups of modules each of which imports, by whatever way, all others of its group."""
    reached = {module: reach(graph, module) for module in graph}
    groups = {frozenset({module, *(m for m in reached[module] if module in reached[m])}) for module in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def reach(graph: Mapping[str, frozenset[str]], start: str) -> set[str]:
    """Return what a module imports, and what that imports, and so on."""
    found, waiting = set[str](), [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_nothing_is_loose_at_the_root() -> None:
    """A new file belongs into a package that says what it is about."""
    there = {path.name for path in (REPOSITORY / "designspace").iterdir() if path.is_file()}

    assert there == ROOT


def test_a_file_name_means_one_thing() -> None:
    """Across the packages; no reason is kept for a name that is unique again."""
    files = defaultdict(list)
    for file in trees():
        files[file.name].append(str(file))
    repeated = {name: paths for name, paths in files.items() if len(paths) > 1 and name != "__init__.py"}

    assert {name: paths for name, paths in repeated.items() if name not in SHARED_NAMES} == {}
    assert SHARED_NAMES.keys() - repeated.keys() == set()


def test_no_name_says_nothing() -> None:
    """What a file is for can be told from its name."""
    assert [str(file) for file in trees() if file.name in NO_NAMES] == []


def test_no_circle_of_imports() -> None:
    """Counting every import, also late ones and those for type checkers; the façade may name what lies above it."""
    graph = dict(edges()) | {"designspace": frozenset()}

    assert circles(graph) == []


def test_the_facade_is_for_users_only() -> None:
    """It imports the modules of the names that it lists, and no file imports from it."""
    listed = {*designspace._MODULE_OF.values(), "designspace.version"}

    assert edges()["designspace"] == listed
    assert [module for module, targets in edges().items() if "designspace" in targets] == []


def test_circles_are_found() -> None:
    """Of two and of three, and what merely leads there is no part of them."""
    graph = {"a": "b", "b": "a", "c": "ad", "d": "e", "e": "f", "f": "d", "g": ""}

    assert circles({name: frozenset(targets) for name, targets in graph.items()}) == [["a", "b"], ["d", "e", "f"]]


def test_files_are_short() -> None:
    """A longer one holds two concepts."""
    lengths = {str(file): len((REPOSITORY / file).read_text(encoding="utf-8").splitlines()) for file in trees()}

    assert {file: n for file, n in lengths.items() if n > MOST_LINES_OF_A_FILE} == {}


def test_functions_are_short() -> None:
    """So that one is read without scrolling; the few that are longer do not grow, and leave the list when they shrink."""
    lengths = {
        (str(file), node.name): (node.end_lineno or 0) - node.lineno + 1
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    longer = {function: n for function, n in lengths.items() if n > MOST_LINES_OF_A_FUNCTION}

    assert {function: n for function, n in longer.items() if n > LONGER.get(function, 0)} == {}
    assert LONGER.keys() - longer.keys() == set()
