"""A toy model with words, a chooser that follows a script, and short ways to run a decoding on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import Budget, Decoding, Generation, Mechanism, Request
from designspace.axes.randomness import step_uniforms, stream_key
from designspace.engine import Engine
from designspace.models.loading import LoadedModel
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.full import Full
from families.scoring.h2o import H2O
from tests.conftest import toy_model

SPELLED = {20: "</", 21: "think", 22: ">", 23: "<end>", 30: "Wait", 31: "Final", 32: "Answer", 40: "State", 41: ":"}
NEWLINES = (10, 11)  # "\n" and ".\n"
TAG, END, WAIT, CUE, STATE = (20, 21, 22), (23,), (30,), (31, 32), (40, 41)
N_NEW, WIDEST, ROWS, CAPACITY = 30, 30, 3, 64
TEN = Budget(10)


class Words:
    """A tokenizer of 97 pieces, most of them `wN `; a text is cut into pieces from the left, the longest first."""

    unk_token_id = None

    def __init__(self) -> None:
        self.pieces = [SPELLED.get(i, f"w{i} ") for i in range(97)]
        self.pieces[10], self.pieces[11] = "\n", ".\n"

    def __len__(self) -> int:
        return len(self.pieces)

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Return the pieces of a text."""
        ids: list[int] = []
        while text:
            best = max((i for i, p in enumerate(self.pieces) if text.startswith(p)), key=lambda i: len(self.pieces[i]))
            ids.append(best)
            text = text[len(self.pieces[best]) :]
        return {"input_ids": ids}

    def decode(self, ids: Sequence[int], **_: object) -> str:
        """Return the text of some tokens."""
        return "".join(self.pieces[i] for i in ids)


@cache
def model(family: str = "llama", seed: int = 0) -> LoadedModel:
    """Return the toy model with its words."""
    return replace(toy_model(family, seed=seed), tokenizer=Words())


@dataclass(frozen=True)
class Scripted(Decoding):
    """The i-th token that is chosen (not forced) in a row is the i-th of its script, known by the random number drawn."""

    kind: ClassVar[str] = "scripted"
    table: tuple[tuple[float, int], ...] = ()

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Look the numbers up; where one is in no script, token 1."""
        table = dict(self.table)
        return torch.tensor([table.get(number, 1) for number in uniforms.tolist()])


def scripted(scripts: Mapping[str, Sequence[int]]) -> Scripted:
    """Return the chooser that writes these tokens for these problems."""
    pairs: list[tuple[float, int]] = []
    for name, script in scripts.items():
        numbers = step_uniforms(stream_key(7, name, 0), len(script)).tolist()
        pairs += zip(numbers, script, strict=True)
    return Scripted(tuple(pairs))


def request(name: str = "p0", length: int = 12, **extra: int) -> Request:
    """Return a prompt of ordinary words, drawn from the problem's name."""
    generator = torch.Generator().manual_seed(sum(name.encode()) + length)
    ids = (torch.randperm(40, generator=generator)[:length] + 50).tolist()
    return Request(name, tuple(ids), stream_key(7, name, 0), **extra)


def compose(decoding: Decoding, **axes: object) -> Mechanism:
    """Return H2O at every step with this decoding, or other axes."""
    baseline = {
        "scoring": H2O(recent=3), "head_routing": Uniform(), "cadence": EveryStep(), "representation": FullPrecision()
    }  # fmt: skip
    return Mechanism("test", **(baseline | axes), decoding=decoding)  # type: ignore[arg-type]


def uncut(decoding: Decoding) -> Mechanism:
    """Return a full cache with this decoding."""
    return compose(decoding, scoring=Full(), cadence=Never())


def engine(
    mechanism: Mechanism, budget: Budget | None = TEN, *, rows: int = ROWS, n_new: int = N_NEW, **extra: object
) -> Engine:
    """Return an engine on the toy model, its capacity the same for all mechanisms."""
    loaded = extra.pop("loaded", None) or model()
    return Engine(
        loaded,  # type: ignore[arg-type]
        mechanism, budget, rows=rows, max_new_tokens=n_new, max_prompt_tokens=WIDEST,
        capacity=extra.pop("capacity", CAPACITY),  # type: ignore[arg-type]
    )  # fmt: skip


def run(mechanism: Mechanism, *requests: Request, budget: Budget | None = TEN, **extra: object) -> list[Generation]:
    """Return the generations of some requests, in their order."""
    done = {g.problem_id: g for g in engine(mechanism, budget, **extra).generate(requests)}  # type: ignore[arg-type]
    return [done[r.problem_id] for r in requests]


def everything(generation: Generation) -> Generation:
    """Return all of a generation but its wall time."""
    return replace(generation, wall_s=0.0)
