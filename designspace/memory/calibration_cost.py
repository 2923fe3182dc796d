"""What calibrating takes: memory, from shapes alone, and seconds, from how fast the model runs on this machine now."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.cache.attention import Pass
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.memory.live_bytes import peak_bytes
from designspace.models.calibrate import Job
from designspace.models.calibration import Corpus
from designspace.models.free_memory import bytes_text, free_bytes
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Apart, ReadTogether
from designspace.models.skeleton import load_skeleton, weight_bytes

_PROBE = 512  # tokens
_COPIES = 12  # of one layer's queries in float32: before and after turning back, complex, and what sums of them need
_SCORES = 4 * 64 * 4  # bytes per head and token of a text where attention is formed for 64 queries at a time


class Cost(NamedTuple):
    """What artefacts that are made together take. n_tokens: that run through the model. seconds: None: not known."""

    names: str
    n_tokens: int
    seconds: float | None


class Memory(NamedTuple):
    """Bytes of the weights, of one text on its way through the model, and the most that artefacts hold beside."""

    weights: int
    text: int
    held: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class _Shapes(Pass):
    """A pass without attention."""

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return a tensor of the output's shape, [B,T,H_q,D]."""
        return torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)


def memory_of(job: Job) -> Memory:
    """Return what a job takes, about; nothing is computed, and no weights are read.

    What is read together is held together; the others follow one after the other.
    """
    skeleton, corpus = load_skeleton(job.spec), job.corpus
    geometry, longest = skeleton.geometry, corpus.longest
    ids = torch.zeros(1, longest, dtype=torch.long, device="meta")
    through = peak_bytes(lambda: skeleton.forward(_Shapes(), input_ids=ids, logits_to_keep=1))
    seen = longest * geometry.n_query_heads * (4 * geometry.head_dim * _COPIES + _SCORES)
    together = sum(one.held(skeleton, corpus) for one in job.together.values())
    others = [one.effort(skeleton, corpus).n_bytes for one in job.apart.values() if isinstance(one, Apart)]
    return Memory(weight_bytes(skeleton), through + seen, max([together, *others]))


def check_memory(job: Job) -> str:
    """Return in words what a job takes.

    Raises:
        CalibrationError: it does not fit into what is free now.
    """
    needed, free = memory_of(job), free_bytes(job.device)
    parts = [
        f"weights {bytes_text(needed.weights)}",
        f"a text of {job.corpus.longest:,} tokens {bytes_text(needed.text)}",
    ]
    parts += [f"what the artefacts hold {bytes_text(needed.held)}"] if needed.held else []
    said = f"memory: about {bytes_text(needed.total)} ({', '.join(parts)})"
    if needed.total > free:
        raise CalibrationError(
            f"{said} on {job.device}, which has {bytes_text(free)} free: use fewer --tokens, a smaller "
            "--window or fewer artefacts"
        )
    return f"{said}, free {bytes_text(free)}"


def tokens_per_s(loaded: LoadedModel, corpus: Corpus) -> float:
    """Return how many tokens the model reads in a second, here and now: by the beginning of the longest text, read twice."""
    ids = max(corpus.texts, key=len)[:_PROBE]
    tokens = torch.tensor([ids], device=loaded.device)
    with torch.inference_mode():
        for _ in range(2):  # the first one pays for what is only done once
            started = time.perf_counter()
            loaded.forward(ReadTogether([]), input_ids=tokens, logits_to_keep=1).logits.cpu()
            elapsed = time.perf_counter() - started
    return len(ids) / elapsed


def costs(job: Job, loaded: LoadedModel) -> list[Cost]:
    """Return what the artefacts take, in the order in which they are made: those that are read together are one.

    Seconds follow from the rate at which the model reads now, and from its operations per token; where threads or devices
    differ in what they are good at, they are off by as much.
    """
    rate = tokens_per_s(loaded, job.corpus)
    per_token = 2 * sum(weight.numel() for weight in loaded.model.parameters())
    found = []
    if job.together:
        passes = 1 + sum(one.passes for one in job.together.values())
        found.append(Cost(", ".join(job.together), job.corpus.n_tokens, passes * job.corpus.n_tokens / rate))
    for name, measure in job.apart.items():
        if isinstance(measure, Apart):
            effort = measure.effort(loaded, job.corpus)
            seconds = effort.n_forward / rate + effort.flops / (per_token * rate)
            found.append(Cost(name, effort.n_forward, seconds))
        else:
            found.append(Cost(name, 0, None))
    return found
