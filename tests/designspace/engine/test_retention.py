"""The record of what a text's cache held, against a plain recording of every slot at every step."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
import torch

from designspace.axes import Budget, Request
from designspace.axes.randomness import stream_key
from designspace.cache.slots import SlotCache
from designspace.engine import Engine
from designspace.engine.looked_up import looked_up_after
from designspace.engine.retention import NEVER_HELD, STILL_HELD, RetentionRecord, RetentionRecorder
from designspace.engine.row import RowState
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism, strategy
from families.decoding.sampling import Sampling
from families.scoring.r_kv import RKV
from families.scoring.snapkv import SnapKV

SPEC = ModelSpec.bundled("pocket-llama")
Slots = dict[tuple[int, int], set[int]]  # by layer and head, the positions that are held
ARMS = {
    "every step": mechanism("h2o"),
    "global scope": mechanism("alpha"),
    "uneven heads": mechanism("ada-kv").override("ada-kv", scoring=SnapKV(recent=4)),
    "cut while texts are steered": mechanism("rollback").override(
        "rollback",
        scoring=RKV(recent=4),
        decoding=strategy("decoding", "rollback")(decoding=Sampling(temperature=0.8), boundary="s", threshold=0.95),
    ),
    "nothing is cut": mechanism("full"),
}


class PlainRecording(RetentionRecorder):
    """Notes beside the record what every slot holds, by loops over the cache's own numbers."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__(cache)
        self.cache, self.plain = cache, dict[bytes, list[Slots]]()

    def on_start(self, state: RowState) -> None:
        super().on_start(state)
        self.plain[state.request.stream] = [self._slots(state.index)]

    def on_step(self, states: Collection[RowState]) -> None:
        super().on_step(states)
        for state in states:
            self.plain[state.request.stream].append(self._slots(state.index))

    def _slots(self, row: int) -> Slots:
        counts, positions = self.cache.counts[:, row].tolist(), self.cache.positions[:, row].tolist()
        return {
            (layer, head): set(positions[layer][head][:n])
            for layer, heads in enumerate(counts)
            for head, n in enumerate(heads)
        }


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """The smaller bundled model."""
    return load_model(SPEC)


def watched(loaded: LoadedModel, name: str) -> PlainRecording:
    """Run five texts on two rows, and return their records and the plain ones."""
    made = ARMS[name]
    if made.decoding is None:
        made = made.override(made.name, decoding=strategy("decoding", "greedy")())
    random = torch.Generator().manual_seed(5)
    todo = [
        Request(f"p{i}", tuple(torch.randint(4, 97, (n,), generator=random).tolist()), stream_key(3, f"p{i}", 0))
        for i, n in enumerate((30, 12, 26, 33, 9))
    ]
    engine = Engine(
        loaded, made, Budget(24) if made.budget_applies else None, rows=2, max_new_tokens=40, max_prompt_tokens=33,
        artefacts={artefact: load_artefact(SPEC, artefact) for artefact in made.needs().calibrations},
    )  # fmt: skip
    engine.hook = recording = PlainRecording(engine.cache)
    list(engine.generate(todo))
    return recording


@pytest.mark.parametrize("name", ARMS)
def test_the_record_is_what_every_slot_held_at_every_step(loaded: LoadedModel, name: str) -> None:
    """Slot by slot, after every prompt and at every step of every text."""
    recording = watched(loaded, name)
    assert len(recording.records) == 5
    for stream, record in recording.records.items():
        assert len(recording.plain[stream]) == len(record.newest) + 1 > 5
        for step, slots in enumerate(recording.plain[stream]):
            held = record.held(step)
            for (layer, head), positions in slots.items():
                assert set(np.flatnonzero(held[layer, head]).tolist()) == positions
    n_changes = sum(len(record.changes) for record in recording.records.values())
    assert (n_changes == 0) == (name == "nothing is cut")
    came_back = any(change.back.size for record in recording.records.values() for change in record.changes)
    assert came_back == (name == "cut while texts are steered")


@pytest.mark.parametrize("name", ["every step", "uneven heads"])
def test_a_token_is_evicted_at_the_first_step_that_lacks_it(loaded: LoadedModel, name: str) -> None:
    """By looking at every step."""
    record: RetentionRecord = next(iter(watched(loaded, name).records.values()))
    steps = [record.held(step) for step in range(len(record.newest) + 1)]
    found = record.evicted_at()
    for layer, head, position in np.ndindex(*found.shape):
        held = [bool(step[layer, head, position]) for step in steps]
        arrives = 0 if position < record.n_prompt_tokens else position - record.n_prompt_tokens + 1
        expected = STILL_HELD if held[-1] else arrives + held[arrives:].index(False)
        assert found[layer, head, position] == expected
    assert NEVER_HELD not in found


def test_what_is_looked_up_after_its_eviction_is_the_largest_later_attention(loaded: LoadedModel) -> None:
    """Against attention weights that transformers computes itself."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(SPEC.path, attn_implementation="eager", torch_dtype=torch.float32)
    ids = tuple(range(4, 34))
    attentions = torch.stack(model(torch.tensor([ids]), output_attentions=True).attentions)[
        :, 0
    ].detach()  # [L,H_q,T,T]
    geometry = loaded.geometry
    random = torch.Generator().manual_seed(2)
    first = torch.randint(1, len(ids) + 1, (geometry.n_layers, geometry.n_kv_heads, len(ids)), generator=random)
    found = looked_up_after(loaded, geometry, None, ids, first)
    group = geometry.n_query_heads // geometry.n_kv_heads
    for layer, head, token in np.ndindex(*first.shape):
        later = attentions[layer, head * group : (head + 1) * group, int(first[layer, head, token]) :, token]
        expected = float(later.max()) if later.numel() else 0.0
        assert float(found.weights[layer, head, token]) == pytest.approx(expected, abs=1e-5)
        if expected > 1e-3:
            query = int(found.by[layer, head, token])
            assert float(attentions[layer, head * group : (head + 1) * group, query, token].max()) == pytest.approx(
                expected, abs=1e-5
            )
