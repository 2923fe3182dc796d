"""A model is accepted by proof: it runs under our attention next to transformers' own, and both must agree.

What is looked at, on a few short random texts of unlike lengths in one batch: every layer attends once, with the heads that
the geometry has; prompt and decode steps give the logits of transformers' eager attention; a row's logits are the same to
the bit whatever its batch-mates; and for each layer, how its keys are turned by their positions. So a new family works
without being known here, and one that asks for something else is refused by what differed.

Logits are compared in float32, whatever the model runs in, where there is memory for that: of a real model in bfloat16,
rounding alone moves them by a tenth of the largest, in transformers as here, and would hide a difference in what is
computed. In its own type a model must then be as close to float32 as transformers itself comes, but for a small factor.
So it is with quantised weights, which are compared as the numbers that they stand for, and then as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from designspace.errors import ModelError
from designspace.models.rotation import Rotation
from designspace.models.trial import Subject, Trial, tried
from designspace.models.widened import in_float32

_WORDS: dict[Rotation, str] = {
    "pairs": "neighbouring components are turned together, not halves",
    "unknown": "keys are turned at other frequencies",
}
PROOF_VERSION = 3  # raised when more is looked at
# Of the largest logit: what float32 loses on the way through a model; and for the others what they may lose where rounding
# cannot be told from anything else.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_TIMES = 4.0  # our error of rounding to transformers': both are the largest of few draws


@dataclass(frozen=True)
class Proof:
    """What was found on one model.

    Attributes:
        logits_difference: the largest difference from transformers' logits, in `compared_in`.
        logits_error: the same, as a share of the largest logit.
        rotations: how each layer turns its keys. frequencies: by the name of which of the model's sets.
        unrotation_error: the largest error of keys that are turned back, as a share of the largest key; over the layers
            whose rotation is known.
        compared_in: the type that both sides were computed in: float32 where there was room, else the model's own.
        rounding_error: the largest difference of our logits in the model's own type, or with its quantised weights, from
            those in float32, as a share of the largest; 0 where they were not computed in both.
    """

    logits_difference: float
    logits_error: float
    rotations: tuple[Rotation, ...]
    frequencies: tuple[str, ...]
    unrotation_error: float
    compared_in: str = "float32"
    rounding_error: float = 0.0

    @property
    def rotation_note(self) -> str:
        """In what layers keys are turned in a way that cannot be turned back here, in words; empty: in none."""
        odd: dict[str, list[int]] = {}
        for layer, rotation in enumerate(self.rotations):
            if rotation in _WORDS:
                odd.setdefault(_WORDS[rotation], []).append(layer)
        return "; ".join(f"in layer{'s'[: len(n) > 1]} {', '.join(map(str, n))} {words}" for words, n in odd.items())


def prove(subject: Subject) -> Proof:
    """Return what is found on a model.

    Raises:
        ModelError: it does not run under our attention, or its logits differ; the message says what.
    """
    with in_float32(subject.model) as others:
        compared_in = subject.dtype
        compared = tried(subject)
    _check_computes_the_same(subject, compared, compared_in)
    own = tried(subject) if others else compared
    rounding_error = 0.0 if own is compared else _rounding_error(subject, compared, own)
    if not torch.equal(own.found[0], own.again):
        raise ModelError(
            f"model type {subject.kind!r} is not supported: a row's logits depend on the other rows of its batch "
            f"(by {float((own.found[0] - own.again).abs().max()):.1e})"
        )
    return Proof(
        max(float((e - f).abs().max()) for e, f in zip(compared.expected, compared.found, strict=True)),
        _difference(compared.expected, compared.found),
        tuple(rotation.layout for rotation in compared.rotations),
        tuple(rotation.frequencies for rotation in compared.rotations),
        max((rotation.error for rotation in compared.rotations), default=0.0),
        str(compared_in).removeprefix("torch."),
        rounding_error,
    )


def _check_computes_the_same(subject: Subject, compared: Trial, dtype: torch.dtype) -> None:
    bar, error = _TOLERANCE.get(dtype, 0.0), _difference(compared.expected, compared.found)
    if not error <= bar:
        no_room = "" if dtype == torch.float32 else "; there was no room to compare them in float32"
        raise ModelError(
            f"model type {subject.kind!r} is not supported: its logits under slot attention differ from transformers' by "
            f"{error:.1e} of the largest (at most {bar:.0e} in {dtype}){no_room}"
        )


def _rounding_error(subject: Subject, exact: Trial, own: Trial) -> float:
    """Return by how much our logits in the model's own type differ from those in float32.

    Raises:
        ModelError: by far more than transformers' own do.
    """
    bar = max(_TOLERANCE.get(subject.dtype, 0.0), _TIMES * _difference(exact.expected, own.expected))
    error = _difference(exact.expected, own.found)
    if not error <= bar:
        raise ModelError(
            f"model type {subject.kind!r} is not supported in {subject.dtype}: its logits under slot attention differ from "
            f"those in float32 by {error:.1e} of the largest (at most {bar:.0e}, by what transformers' own differ)"
        )
    return error


def _difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest difference as a share of a text's largest logit; NaN if anything is: no comparison holds then."""
    shares = [(e - f).abs().max() / e.abs().max().clamp(min=1e-6) for e, f in zip(expected, found, strict=True)]
    return float(torch.stack(shares).max())
