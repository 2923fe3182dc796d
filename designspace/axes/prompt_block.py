"""Prompts that are cut block by block: the company in which later blocks can attend to what is held of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from designspace.axes.strategy import Composition


def prompt_block_errors(mechanism: Composition) -> Iterator[str]:
    """Yield why a mechanism cannot cut prompts block by block.

    Later blocks attend to held tokens as they were written, each standing for itself.
    """
    held = "prompt_block has later blocks attend to held tokens as they are"
    if mechanism.scoring.protects_prompt:
        yield "prompt_block cuts the prompt, and protect: prompt keeps all of it"
    if mechanism.representation.merges or mechanism.representation.carries_mass:
        yield f"{held}, but representation {mechanism.representation.kind!r} merges evicted ones into them"
    if mechanism.scoring.selector.weighs:
        yield f"{held}, but selector {mechanism.scoring.selector.kind!r} weighs them"
