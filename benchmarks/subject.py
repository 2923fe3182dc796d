"""The models that are measured, and prompts for them that every side can read: of a real model in any folder, too."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.random_model import DEFAULT_FOLDER, SHAPES, Shape, random_model, words
from designspace.models.model_spec import ModelSpec
from designspace.models.worked_problems import worked_problems
from designspace.tasks.chain_arithmetic import chain_arithmetic

POCKET = "pocket"
HALF = "-bf16"  # behind a model's name: the same files, loaded as bfloat16
BOS = "<bos>"
N_PROMPT_TOKENS = 32  # of a random model's prompts; the pocket model's have 24 to 36


@dataclass(frozen=True)
class Subject:
    """A model in a local folder.

    The prompts of the pocket model and of random ones are words between spaces, one token each, and begin with `<bos>`. Those
    of a real model are word problems; every side puts them into the model's chat template, if it has one.
    """

    name: str
    path: Path
    dtype: str
    shape: Shape | None = None
    real: bool = False

    @property
    def file_request(self) -> dict[str, Any]:
        """What tells a worker which model to load."""
        return {"path": str(self.path), "dtype": self.dtype}

    def prompts(self, count: int, *, start: int = 0, n_tokens: int = N_PROMPT_TOKENS) -> list[str]:
        """Return word problems for a real model, problems of the pocket model's task, or random words for a random one."""
        if self.real:
            return [made.problem for made in worked_problems(start + count)[start:]]
        if self.shape is None:
            return [problem.prompt for problem in chain_arithmetic("dev", count, start=start)]
        return [random_prompt(self.shape, idx, n_tokens) for idx in range(start, start + count)]


def subject(name: str, folder: Path = DEFAULT_FOLDER) -> Subject:
    """Return a model by name, writing its files if it is a random one that is not there yet; or that in a folder.

    Raises:
        KeyError: no such name, and no such folder.
    """
    if is_folder(name):
        return Subject(Path(name).resolve().name, Path(name).resolve(), dtype_of(Path(name)), real=True)
    base = name.removesuffix(HALF)
    if base == POCKET:
        spec = ModelSpec.bundled("pocket-llama")
        assert spec.folder is not None
        path, dtype, shape = spec.folder, spec.dtype, None
    else:
        path, dtype, shape = random_model(folder, base), SHAPES[base].dtype, SHAPES[base]
    return Subject(name, path, dtype if name == base else "bfloat16", shape)


def is_folder(name: str) -> bool:
    """Return whether a name is that of a folder with a model."""
    return (Path(name) / "config.json").is_file()


def dtype_of(folder: Path) -> str:
    """Return the type that a model's weights are used in: bfloat16 if they are stored so, else float32."""
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "bfloat16" if "bfloat16" in (stated.get("dtype"), stated.get("torch_dtype")) else "float32"


def random_prompt(shape: Shape, index: int, n_tokens: int) -> str:
    """Return `<bos>` and random words, the same for the same index."""
    choose = random.Random(index)
    return " ".join([BOS, *choose.choices(words(shape)[4:], k=n_tokens - 1)])


def context_and_question(prompt: str) -> tuple[str, str]:
    """Split a prompt as kvpress wants it: what is read first, without `<bos>`, and what is asked, here the last word.

    The space goes with the word, as it does in a token.
    """
    context, space, question = prompt.removeprefix(BOS).strip().rpartition(" ")
    return context, space + question
