"""From a length in tokens, which depends on the tokenizer, to the length in words that a task is declared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from designspace.errors import DeclarationError
from designspace.tasks.parameters import Value, WholeNumber
from designspace.tasks.task_spec import TaskSpec


def words_for(
    task: str,
    tokens: int,
    count: Callable[[str], int],
    *,
    split: str = "dev",
    problems: int = 8,
    parameters: Mapping[str, Value] | None = None,
) -> int:
    """Return the largest `words` with which no prompt of a task has more than a number of tokens.

    Args:
        task: its name.
        tokens: the longest that a prompt may be.
        count: returns the number of tokens of a prompt, with a chat template if there is one.
        split: whose problems are tried.
        problems: how many of its first problems are tried; others may be a few tokens longer.
        parameters: other parameters of the task.

    Raises:
        UnknownName: no such task, split or parameter.
        DeclarationError: the task has no parameter `words`, or not even its shortest prompts are short enough.
    """
    fixed = tuple(sorted((parameters or {}).items()))
    words = TaskSpec(task, split, problems, parameters=fixed).task.parameters.get("words")
    if not isinstance(words, WholeNumber):
        raise DeclarationError(f"task {task!r} has no parameter words")

    def declared(n: int) -> TaskSpec:
        return TaskSpec(task, split, problems, parameters=tuple(sorted({**dict(fixed), "words": n}.items())))

    def goes(n: int) -> bool:
        try:
            declared(n)
        except DeclarationError:
            return False
        return True

    def fits(n: int) -> bool:
        return max(count(problem.prompt) for problem in declared(n).load()) <= tokens

    least = _first(goes, words.least, words.most)
    if not fits(least):
        raise DeclarationError(f"task {task!r} has longer prompts than {tokens} tokens even with words={least}")
    # No prompt has fewer tokens than words.
    return _first(lambda n: not fits(n), least, max(min(words.most, tokens), least) + 1) - 1


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first number from `low` on for which something holds that goes on to hold; `high` if none below it."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
