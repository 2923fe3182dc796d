"""One look at each text: what artefacts take from plain causal forward passes, several of them from the same passes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.models.calibration import Corpus, Measure
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel


class Reading(Pass):
    """Plain causal attention over texts, one after the other, whose layers an artefact is measured on.

    One text is one forward pass over positions 0 … T-1. `see` is called once for each layer of it, then `ended`. Nothing that
    grows with the number of texts should be kept.
    """

    def takes(self, n_tokens: int) -> bool:
        """Return whether a text of this length is looked at; asked before each text."""
        return True

    @abstractmethod
    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Take in one layer of a text: post-RoPE query [1,H_q,T,D], key and value [1,H_kv,T,D]."""

    def ended(self, n_tokens: int) -> None:
        """Take note that a text of this length is over."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what was measured.

        Raises:
            CalibrationError: no text was of use.
        """

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See one layer of a text [1,H,T,D], and attend."""
        self.see(call, query, key, value)
        return causal_attention(query, key, value, call).transpose(1, 2)


class ReadTogether(Pass):
    """Plain causal attention over one text that several readings see."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = readings

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Show one layer of a text [1,H,T,D] to all, and attend."""
        for reading in self.readings:
            reading.see(call, query, key, value)
        return causal_attention(query, key, value, call).transpose(1, 2)


def read(loaded: LoadedModel, texts: Sequence[tuple[int, ...]], readings: Sequence[Reading]) -> None:
    """Run each text once, for all readings that take it."""
    with stage("reading", sum(map(len, texts)), "tokens") as done:
        for ids in texts:
            if takers := [reading for reading in readings if reading.takes(len(ids))]:
                tokens = torch.tensor([ids], device=loaded.device)
                loaded.forward(ReadTogether(takers), input_ids=tokens, logits_to_keep=1)
                for reading in takers:
                    reading.ended(len(ids))
            done(len(ids))


@dataclass(frozen=True)
class OnePass:
    """An artefact for which one look at each text is enough, whoever else looks at the same time.

    Attributes:
        begin: returns a fresh reading for a model, or raises a CalibrationError if it cannot be measured on it.
        passes: about how many plain passes over the texts it takes beside the shared one.
        held: bytes that its reading holds, beside a few copies of one layer's tensors.
    """

    begin: Callable[[LoadedModel], Reading]
    passes: float
    held: Callable[[LoadedModel, Corpus], int]

    def __call__(self, loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
        """Measure it by itself; the docstring of `begin` says what is returned."""
        reading = self.begin(loaded)
        read(loaded, corpus.texts, [reading])
        return reading.tensors()


def one_pass(
    passes: float = 0.1, held: Callable[[LoadedModel, Corpus], int] = lambda loaded, corpus: 0
) -> Callable[[Callable[[LoadedModel], Reading]], OnePass]:
    """Turn a function that begins a reading into a measure, which others may share their passes with."""
    return lambda begin: OnePass(begin, passes, held)


class Effort(NamedTuple):
    """What making an artefact takes, about.

    n_forward: tokens that run through the model. flops: floating-point operations beside these passes. n_bytes: memory that
    grows with text or model, beside the weights and one pass.
    """

    n_forward: int
    flops: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Apart:
    """An artefact that takes more than one look at the texts: networks are trained, or something is searched for.

    Attributes:
        measure: makes it.
        effort: what that takes.
    """

    measure: Measure
    effort: Callable[[LoadedModel, Corpus], Effort]

    def __call__(self, loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
        """Make it."""
        return self.measure(loaded, corpus)


def apart(effort: Callable[[LoadedModel, Corpus], Effort]) -> Callable[[Measure], Apart]:
    """Say what a measure takes that shares its passes with nothing."""
    return lambda measure: Apart(measure, effort)
