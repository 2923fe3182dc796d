"""One trial of a model: the same few texts under our attention and under transformers' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from designspace.axes import Geometry, Needs, Representation, SlotStore, StoreSpec
from designspace.axes.full_store import FullStore
from designspace.cache.attention import IMPLEMENTATION, DecodePass, Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall, in_flight
from designspace.cache.packing import keep_all
from designspace.cache.prefill_pass import PrefillPass, PrefillPasses
from designspace.cache.slots import SlotCache
from designspace.errors import ModelError
from designspace.models.rotation import Frequencies, LayerRotation, frequencies_of, rotation_of_layer

_LENGTHS = (3, 9, 14)  # of the prompts that run together
_N_NEW = 4  # decode steps after them
_OFFSET = 5  # by which a text is moved to see what positions do to its keys
_SEED = 20_260_514


class Subject(NamedTuple):
    """A model under our attention, not yet accepted. owners: for each layer the layer whose cache it was trained to read."""

    model: Any
    geometry: Geometry
    owners: tuple[int, ...] | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.get_input_embeddings().weight.device

    def frequencies(self) -> list[Frequencies]:
        """Return the sets of frequencies that the model's rotary embedding has."""
        return frequencies_of(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and cache."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def kind(self) -> str:
        """What transformers calls the architecture."""
        return str(self.model.config.model_type)


class Trial(NamedTuple):
    """What came of it.

    Attributes:
        expected: transformers' logits [n_new+1,V] of each text, float32. found: ours, of all texts in one batch.
        again: ours of the first text, with other batch-mates.
        rotations: how each layer turns its keys.
    """

    expected: list[Tensor]
    found: list[Tensor]
    again: Tensor
    rotations: list[LayerRotation]


@torch.inference_mode()
def tried(subject: Subject) -> Trial:
    """Return what a model computes, in the type that its weights have now.

    Raises:
        ModelError: it does not run under our attention.
    """
    texts = _texts(subject)
    try:
        return Trial(
            [_reference(subject, text) for text in texts],
            _ours(subject, texts),
            _ours(subject, [texts[0], *(text.flip(0) for text in texts[1:])])[0],
            _rotations(subject, texts[-1]),
        )
    except ModelError:
        raise
    except Exception as error:  # somebody else's forward pass may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"model type {subject.kind!r} is not supported: it does not run under slot attention "
            f"({type(error).__name__}: {reason:.160})"
        ) from error


@dataclass(frozen=True)
class _Plain(Representation):
    """Keys and values as they are."""

    kind: ClassVar[str] = "full"

    def allocate(self, room: StoreSpec) -> SlotStore:
        return FullStore(room)


def _texts(subject: Subject) -> list[Tensor]:
    """Return random texts, prompts and what follows them."""
    n_tokens = subject.model.get_input_embeddings().weight.shape[0]
    random = torch.Generator().manual_seed(_SEED)
    return [torch.randint(0, n_tokens, (length + _N_NEW,), generator=random).to(subject.device) for length in _LENGTHS]


def _run(subject: Subject, slots: Pass, **arguments: Tensor) -> Any:
    with in_flight(slots):
        return subject.model(use_cache=False, slots=slots, **arguments)


def _reference(subject: Subject, text: Tensor) -> Tensor:
    """Return transformers' own logits [n_new+1,V] from the prompt's last token on.

    It knows nothing of layers that were trained to share caches: for those, of plain attention over the whole text.
    """
    if subject.owners is not None:
        positions = torch.arange(len(text), device=subject.device)[None]
        output = _run(subject, _Keys(), input_ids=text[None], position_ids=positions)
        return output.logits[0, -_N_NEW - 1 :].float()
    with _attention(subject.model, "eager"):
        logits: Tensor = subject.model(input_ids=text[None], use_cache=False).logits
    return logits[0, -_N_NEW - 1 :].float()


def _ours(subject: Subject, texts: Sequence[Tensor]) -> list[Tensor]:
    """Return our logits [n_new+1,V] of each text, prompts and steps all together."""
    cache = SlotCache(
        subject.geometry,
        _Plain(),
        Needs(),
        rows=len(texts),
        capacity=max(_LENGTHS) + _N_NEW + 1,
        dtype=subject.dtype,
        device=subject.device,
        width=max(_LENGTHS) + _N_NEW + 1,
        owners=subject.owners,
    )
    prompts = [text[:-_N_NEW] for text in texts]
    passes = [_Watched(Needs(), subject.geometry, len(prompt), subject.owners) for prompt in prompts]
    padded = torch.zeros(len(texts), max(map(len, prompts)), dtype=torch.long, device=subject.device)
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)] = prompt
    positions = torch.arange(padded.shape[1], device=subject.device).expand_as(padded)
    output = _run(subject, PrefillPasses([*passes]), input_ids=padded, position_ids=positions)
    logits = [[output.logits[row, len(prompt) - 1].float()] for row, prompt in enumerate(prompts)]
    for row, one in enumerate(passes):
        one.check_complete()
        cache.load(row, one.prompt(), keep_all(one.prompt()), row)
    for step in range(_N_NEW):
        cache.begin_step()
        fed = torch.stack([text[step - _N_NEW] for text in texts])
        output = _run(
            subject,
            _WatchedDecode(cache, subject.geometry),
            input_ids=fed[:, None],
            position_ids=cache.next_position[:, None],
        )
        cache.end_step()
        for row, found in enumerate(logits):
            found.append(output.logits[row, -1].float())
    return [torch.stack(found) for found in logits]


class _Watched(PrefillPass):
    """A prompt's pass that checks what it is given."""

    def __init__(self, needs: Needs, geometry: Geometry, n_tokens: int, owners: tuple[int, ...] | None) -> None:
        super().__init__(needs, geometry, n_tokens, owners)
        self.seen: set[int] = set()

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Check shapes and that the layer has not attended before, then attend."""
        _check_layer(self.seen, call.layer, self.geometry, query, key, value)
        return super().attend(call, query, key, value)

    def check_complete(self) -> None:
        """Check that every layer has attended.

        Raises:
            ModelError: naming the layers that have not.
        """
        missing = sorted(set(range(self.geometry.n_layers)) - self.seen)
        if missing:
            raise ModelError(f"layers {', '.join(map(str, missing))} do not attend through the registered function")


class _WatchedDecode(DecodePass):
    """A decode step that checks what it is given."""

    def __init__(self, cache: SlotCache, geometry: Geometry) -> None:
        super().__init__(cache)
        self._geometry, self._seen = geometry, set[int]()

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Check shapes and that the layer has not attended before, then attend."""
        _check_layer(self._seen, call.layer, self._geometry, query, key, value)
        return super().attend(call, query, key, value)


def _check_layer(seen: set[int], layer: int, geometry: Geometry, query: Tensor, key: Tensor, value: Tensor) -> None:
    if layer in seen:
        raise ModelError(f"layer {layer} attends twice in one pass, so its tokens would be stored twice")
    seen.add(layer)
    wanted = {
        "query": (geometry.n_query_heads, query),
        "key": (geometry.n_kv_heads, key),
        "value": (geometry.n_kv_heads, value),
    }
    for name, (n_heads, given) in wanted.items():
        if (given.shape[1], given.shape[3]) != (n_heads, geometry.head_dim):
            raise ModelError(
                f"layer {layer} hands over a {name} of {given.shape[1]} heads of {given.shape[3]}, "
                f"the configuration says {n_heads} of {geometry.head_dim}"
            )


class _Keys(Pass):
    """Plain causal attention that keeps every layer's keys [1,H_kv,T,D]."""

    def __init__(self) -> None:
        self.keys: dict[int, Tensor] = {}

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep the layer's keys and attend."""
        self.keys[call.layer] = key
        return causal_attention(query, key, value, call).transpose(1, 2)


def _rotations(subject: Subject, text: Tensor) -> list[LayerRotation]:
    """Return how each layer turns its keys.

    The same text at other positions attends alike, so its keys differ by what their positions did to them and nothing else.
    """
    here, there = (_keys_at(subject, text, offset) for offset in (0, _OFFSET))
    positions = torch.arange(len(text), device=subject.device)
    candidates = subject.frequencies()
    return [
        rotation_of_layer(here[layer], there[layer], positions, _OFFSET, candidates, subject.dtype)
        for layer in sorted(here)
    ]


def _keys_at(subject: Subject, text: Tensor, offset: int) -> dict[int, Tensor]:
    seen = _Keys()
    positions = torch.arange(len(text), device=subject.device) + offset
    _run(subject, seen, input_ids=text[None], position_ids=positions[None])
    return seen.keys


@contextmanager
def _attention(model: Any, implementation: str) -> Iterator[None]:
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(IMPLEMENTATION)
