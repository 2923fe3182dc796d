"""The lengths that an engine has room for: part of what fixes a row's numbers, so one rule for all who make or foresee one."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from designspace.errors import DeclarationError
from designspace.tasks.task_spec import TaskSpec
from sweeps.generation_fields import GenerationCaps


class EngineLengths(NamedTuple):
    """Tokens of the longest prompt, and the most new tokens of any text, that an engine is made for."""

    prompt: int
    new: int


def engine_lengths(task: TaskSpec, generation: GenerationCaps, lengths: Collection[int]) -> EngineLengths:
    """Return the lengths that the engine of a task's cells has room for.

    They come from the whole task, not from a shard, for they must not depend on how problems are cut into shards. Where the
    task declares its `prompt_room`, they do not depend on its problems at all.

    lengths: of all the task's prompts, in tokens.

    Raises:
        DeclarationError: the longest prompt leaves no room for new tokens, or is longer than the room for prompts.
    """
    generation.new_token_cap(max(lengths))
    if task.prompt_room is None:
        return EngineLengths(max(lengths), generation.new_token_cap(min(lengths)))
    if max(lengths) > task.prompt_room:
        raise DeclarationError(
            f"prompt_room must hold the longest prompt of task {task.name!r}, which has {max(lengths)} tokens, "
            f"got prompt_room={task.prompt_room}"
        )
    return EngineLengths(task.prompt_room, generation.new_token_cap(1))
