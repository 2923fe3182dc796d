"""The models that are measured, and prompts for them that every side can read."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.random_model import DEFAULT_FOLDER, SHAPES, Shape, random_model, words
from designspace.models.model_spec import ModelSpec
from designspace.tasks.chain_arithmetic import chain_arithmetic

POCKET = "pocket"
HALF = "-bf16"  # behind a model's name: the same files, loaded as bfloat16
BOS = "<bos>"
N_PROMPT_TOKENS = 32  # of a random model's prompts; the pocket model's have 24 to 36


@dataclass(frozen=True)
class Subject:
    """A model in a local folder. Its prompts are words between spaces, one token each, and begin with `<bos>`."""

    name: str
    path: Path
    dtype: str
    shape: Shape | None = None

    @property
    def file_request(self) -> dict[str, Any]:
        """What tells a worker which model to load."""
        return {"path": str(self.path), "dtype": self.dtype}

    def prompts(self, count: int, *, start: int = 0, n_tokens: int = N_PROMPT_TOKENS) -> list[str]:
        """Return problems of the pocket model's task, or random words for a random model."""
        if self.shape is None:
            return [problem.prompt for problem in chain_arithmetic("dev", count, start=start)]
        return [random_prompt(self.shape, idx, n_tokens) for idx in range(start, start + count)]


def subject(name: str, folder: Path = DEFAULT_FOLDER) -> Subject:
    """Return a model by name, writing its files if it is a random one that is not there yet.

    Raises:
        KeyError: no such name.
    """
    base = name.removesuffix(HALF)
    if base == POCKET:
        spec = ModelSpec.bundled("pocket-llama")
        assert spec.folder is not None
        path, dtype, shape = spec.folder, spec.dtype, None
    else:
        path, dtype, shape = random_model(folder, base), SHAPES[base].dtype, SHAPES[base]
    return Subject(name, path, dtype if name == base else "bfloat16", shape)


def random_prompt(shape: Shape, index: int, n_tokens: int) -> str:
    """Return `<bos>` and random words, the same for the same index."""
    choose = random.Random(index)
    return " ".join([BOS, *choose.choices(words(shape)[4:], k=n_tokens - 1)])


def context_and_question(prompt: str) -> tuple[str, str]:
    """Split a prompt as kvpress wants it: what is read first, without `<bos>`, and what is asked, here the last word."""
    context, _, question = prompt.removeprefix(BOS).strip().rpartition(" ")
    return context, question
