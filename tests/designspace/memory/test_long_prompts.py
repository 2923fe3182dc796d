"""Prompts of up to 32,768 tokens: what they need has a bound, which is stated, and what they say is what the model says."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from designspace.axes import Budget, Mechanism, Request
from designspace.engine import Engine
from designspace.memory.footprint import ArmMemory
from designspace.memory.live_bytes import LiveBytes
from designspace.models.loading import LoadedModel
from designspace.models.skeleton import weight_bytes
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.scoring.snapkv import SnapKV
from tests.conftest import toy_model

POSITIONS = 32_768 + 64
BUDGET, BLOCK = Budget(48), 256


@pytest.fixture(scope="module")
def toy() -> LoadedModel:
    """A toy model with room for long texts."""
    return replace(toy_model(), longest=POSITIONS)


def prompt_of(n: int) -> tuple[int, ...]:
    """A prompt of so many tokens."""
    return tuple(torch.randint(2, 97, (n,), generator=torch.Generator().manual_seed(n)).tolist())


def arm(name: str) -> Mechanism:
    """Streams, or SnapKV with a small window; both cut prompts block by block."""
    scoring = {"scoring": SnapKV(recent=8)} if name == "snapkv" else {}
    return mechanism(name).override(name, cadence=EveryK(k=8, prompt_block=BLOCK), decoding=Greedy(), **scoring)


def peak_and_stated(loaded: LoadedModel, found: Mechanism, n: int, **options: Any) -> tuple[int, int]:
    """Return the most bytes that were alive while a text was written after a prompt, and the most that are foreseen."""
    budget = BUDGET if found.budget_applies else None
    limits = {"max_prompt_tokens": n, "max_new_tokens": 4, **options}
    stated = ArmMemory(loaded, found, budget, n_prompts=1, **limits).at(1)
    with LiveBytes() as live:
        engine = Engine(loaded, found, budget, rows=1, **limits)
        (done,) = engine.generate([Request("p", prompt_of(n), bytes(16))])
    assert done.n_prompt_tokens == n
    return live.peak, stated.total - weight_bytes(loaded)


@pytest.mark.usefixtures("plain_path")
@pytest.mark.parametrize("name", ["streaming-llm", "snapkv"])
def test_what_a_prompt_needs_does_not_grow_with_it_if_it_is_cut_block_by_block(toy: LoadedModel, name: str) -> None:
    """All 32,768 tokens of it, beside one bit for each and its ids."""
    short, stated = peak_and_stated(toy, arm(name), 1024)
    long, stated_long = peak_and_stated(toy, arm(name), 32_768)
    per_token = 8 + 8 + 1  # ids, on their way into the model, and pins

    assert short <= stated
    assert long <= stated_long
    assert long - short <= per_token * 32_768
    assert stated_long - stated <= 2 * per_token * 32_768


@pytest.mark.usefixtures("plain_path")
def test_chunks_bound_what_a_prompt_needs_beside_its_keys_and_values(toy: LoadedModel) -> None:
    """Twice the prompt, twice the keys and values; what layers compute stays what it is."""
    full = mechanism("full").override("full", decoding=Greedy())
    (whole, _), (chunked, stated) = (peak_and_stated(toy, full, 4096, prefill_chunk=chunk) for chunk in (None, 256))
    longer, stated_longer = peak_and_stated(toy, full, 8192, prefill_chunk=256)
    text = 4096 * 2 * toy.geometry.n_heads_total * toy.geometry.head_dim * 4

    assert chunked <= stated
    assert longer <= stated_longer
    assert chunked < whole / 1.5
    assert longer - chunked < 5 * text  # in the cache, in the prompt, and copies while the last chunk joins it


def test_a_prompt_in_chunks_is_the_prompt_that_transformers_reads(toy: LoadedModel) -> None:
    """Logits after 8,192 tokens."""
    ids = prompt_of(8192)
    full = mechanism("full").override("full", decoding=Greedy())
    engine = Engine(toy, full, None, rows=1, max_new_tokens=2, max_prompt_tokens=len(ids), prefill_chunk=1024)
    _, logits = engine.prefill.encode(ids)
    plain = copy.deepcopy(toy.model)
    plain.set_attn_implementation("sdpa")
    with torch.inference_mode():
        expected = plain(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[:, -1]

    assert (logits - expected).abs().max() < 1e-4
