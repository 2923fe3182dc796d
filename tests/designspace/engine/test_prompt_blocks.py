"""Prompts that come in blocks: whole ones as in one pass, and ones that are cut after each block as a slow reference has it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Artefact, Budget, Gate, Mechanism, Needs, Request, Scoring
from designspace.axes.randomness import stream_key
from designspace.cache.packing import Prompt
from designspace.engine import Engine
from designspace.engine.prefill import Prefill
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.cadence.hysteresis import Hysteresis
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.knorm import KNorm
from families.scoring.scissorhands import PivotalHistory
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model
from tests.designspace.engine.test_gates import Sums

BLOCK = 16
WEIGHTS = {"made-up": Artefact("made-up", {"by_layer": torch.tensor([3.0, 5.0])})}


@dataclass(frozen=True)
class OfPrevious(Sums):
    """The same number, of the token before the one that comes."""

    of_previous = True


def ids_of(n: int, seed: int = 0) -> tuple[int, ...]:
    """A prompt of so many tokens."""
    return tuple(torch.randint(2, 97, (n,), generator=torch.Generator().manual_seed(seed)).tolist())


def text_of(prompt: Prompt) -> list[Tensor]:
    """Everything that a prompt has, without padding."""
    n, seen = prompt.n_tokens, prompt.observed
    per_slot = [prompt.positions, seen.accumulated, seen.last, *(state[..., 0] for state in seen.tracked.values())]
    found = [prompt.keys[..., :n, :], prompt.values[..., :n, :], seen.queries, seen.query_positions, seen.layer_cosine]
    found += [x[..., :n] for x in per_slot if x is not None]
    return [x for x in [*found, seen.sentence_ends, seen.sentence_sums] if x is not None]


@pytest.mark.parametrize("n", [BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"kv_owners": [0, 0]},
        {"family": "mistral", "sliding_window": 12},
        {"family": "gemma2", "head_dim": 16, "sliding_window": 12, "attn_logit_softcapping": 3.0},
    ],
    ids=["plain", "shared", "window", "softcap"],
)
def test_chunks_say_what_one_pass_says(n: int, extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, values, logits and everything that strategies observe, of prompts that are longer than a chunk."""
    loaded = toy_model(
        extra.get("family", "llama"), **{name: value for name, value in extra.items() if name != "family"}
    )
    monkeypatch.setattr(
        type(loaded), "last_tokens", lambda self, ends: frozenset(range(0, 97, 5)) if ends else frozenset()
    )
    gates: tuple[Gate, ...] = (Sums(), OfPrevious())
    needs = Needs(
        queries=20, accumulated=True, last=True, trackers=(PivotalHistory(12),), layer_cosine=True, gates=gates,
        sentences=("x",),
    )  # fmt: skip
    owners = extra.get("kv_owners")
    whole = Prefill(loaded, needs, owners, loaded.output_projection(), WEIGHTS)
    expected, logits = whole.encode(ids_of(n))
    longest = _Longest(loaded, monkeypatch)
    chunked = Prefill(loaded, needs, owners, loaded.output_projection(), WEIGHTS, BLOCK)
    found, of_blocks = chunked.encode(ids_of(n))

    assert longest.n_tokens == BLOCK
    assert (of_blocks - logits).abs().max() < 1e-5
    assert found.n_tokens == n
    assert len(text_of(found)) == 13
    for ours, theirs in zip(text_of(found), text_of(expected), strict=True):
        assert torch.allclose(ours.double(), theirs.double(), atol=2e-5)


class _Longest:
    """Watches how many tokens of a text go through a model at once."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_tokens, forward = 0, loaded.forward

        def watched(*arguments: Any, **keywords: Any) -> Any:
            self.n_tokens = max(self.n_tokens, keywords["input_ids"].shape[1])
            return forward(*arguments, **keywords)

        object.__setattr__(loaded, "forward", watched)


def arm(scoring: Scoring, **cadence: Any) -> Mechanism:
    """A mechanism that cuts prompts after each block, and then every four steps."""
    return Mechanism(
        "blocks", scoring, Uniform(), EveryK(k=4, prompt_block=BLOCK, **cadence), FullPrecision(), Greedy()
    )


def reference(loaded: LoadedModel, ids: Sequence[int], held_after: Any, n_blocks: int) -> tuple[Tensor, list[set[int]]]:
    """Return the logits after a prompt and what each head of a one-layer model holds, from whole passes under a mask.

    held_after: what is left [H_kv] of the positions that a head holds, given the layer's keys [H_kv,T,D].
    """
    plain, (n_kv, group) = copy.deepcopy(loaded.model), (loaded.geometry.n_kv_heads, loaded.geometry.group)
    plain.set_attn_implementation("eager")
    held, mask = [set[int]() for _ in range(n_kv)], torch.full((1, n_kv, len(ids), len(ids)), float("-inf"))
    logits = torch.empty(0)
    for block in range(n_blocks):
        first, last = block * BLOCK, min((block + 1) * BLOCK, len(ids))
        for head in range(n_kv):
            for query in range(first, last):
                mask[0, head, query, sorted(held[head] | set(range(first, query + 1)))] = 0.0
        seen = mask[:, :, :last, :last].repeat_interleave(group, 1)
        with torch.no_grad():
            output = plain(input_ids=torch.tensor([ids[:last]]), attention_mask=seen, use_cache=True)
        logits, keys = output.logits[:, -1], output.past_key_values.layers[0].keys[0]
        held = [held_after(held[head] | set(range(first, last)), keys[head], last) for head in range(n_kv)]
    return logits, held


@pytest.mark.parametrize("name", ["streaming-llm", "knorm"])
@pytest.mark.parametrize("n", [20, 3 * BLOCK, 5 * BLOCK + 3])
def test_a_prompt_is_cut_after_each_block(name: str, n: int) -> None:
    """What is held after the prompt, and the logits, are those of whole passes in which queries see what was held."""
    loaded, budget, ids = toy_model(layers=1), 12, ids_of(n)
    scorings = {"streaming-llm": StreamingLLM(sinks=4), "knorm": KNorm(recent=4)}

    def held_after(held: set[int], keys: Tensor, end: int) -> set[int]:
        if name == "streaming-llm":
            kept = sorted(held, key=lambda i: (i >= 4, -i))
        else:
            kept = sorted(held, key=lambda i: (i < end - 4, float(keys[i].norm())))
        return set(kept[:budget])

    engine = Engine(
        loaded, arm(scorings[name]), Budget(budget, "nominal"), rows=2, max_new_tokens=4, max_prompt_tokens=n
    )
    held = _Held(engine)
    engine.hook.on_start = held.note  # type: ignore[method-assign]
    done = list(engine.generate([Request("other", ids_of(7), bytes(16)), Request("case", ids, bytes(16))]))
    logits, expected = reference(loaded, ids, held_after, -(-n // BLOCK))

    assert held.by_problem["case"] == expected
    case = next(g for g in done if g.problem_id == "case")
    assert case.token_ids[0] == int(logits.argmax())
    assert case.n_events == -(-n // BLOCK)
    assert case.n_evicted == (n - budget) * loaded.geometry.n_heads_total


class _Held:
    """Notes what heads of the first layer hold after the prompt."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.by_problem = engine, dict[str, list[set[int]]]()

    def note(self, state: Any) -> None:
        """Note a row."""
        heads = self.engine.cache.positions[0, state.index].tolist()
        self.by_problem[state.request.problem_id] = [set(head) - {-1} for head in heads]


def test_rows_and_accounts(toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row does not depend on its neighbours, has its schedule's sizes, and never holds more than target and block."""
    most = 0
    encode_block = Prefill.encode_block

    def watched(self: Prefill, ids: tuple[int, ...], before: Prompt | None = None) -> tuple[Prompt, Tensor]:
        nonlocal most
        text, logits = encode_block(self, ids, before)
        most = max(most, text.size)
        return text, logits

    monkeypatch.setattr(Prefill, "encode_block", watched)
    lengths = (70, 5, 33, 48)
    asked = [Request(str(n), ids_of(n, n), stream_key(0, str(n), 0)) for n in lengths]
    alike = {"rows": 2, "max_new_tokens": 12, "max_prompt_tokens": 70}
    for scoring in ("h2o", "snapkv", "r-kv"):
        blocks = EveryK(k=4, prompt_block=BLOCK)
        by_blocks = mechanism(scoring).override(scoring, cadence=blocks, decoding=Greedy())
        by_blocks = by_blocks if scoring != "snapkv" else mechanism("snapkv-window-8").override(
            "snapkv", cadence=blocks, decoding=Greedy()
        )  # fmt: skip
        runs = [
            {g.problem_id: g for g in Engine(toy_llama, by_blocks, Budget(20), **alike).generate(order)}
            for order in (asked, asked[::-1])
        ]
        assert most <= 20 + BLOCK
        for n in lengths:
            one, other = runs[0][str(n)], runs[1][str(n)]
            assert one.token_ids == other.token_ids
            assert one.cache_tokens_per_step == other.cache_tokens_per_step
            simulated = by_blocks.cadence.schedule(Budget(20)).simulate(n, one.n_steps)
            assert one.cache_tokens_per_step == tuple(map(float, simulated))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"protect": "prompt"}, "prompt_block cuts the prompt, and protect: prompt keeps all of it"),
        ({"representation": "nearest-merge"}, "'nearest-merge' merges evicted ones into them"),
        ({"selector": "poisson"}, "selector 'poisson"),
    ],
)
def test_what_cannot_be_cut_block_by_block_is_refused(parts: dict[str, str], reason: str) -> None:
    """With the reason, when it is declared."""
    from designspace.registry import strategy

    scoring = KNorm(protect=parts.get("protect", "none"))
    if "selector" in parts:
        scoring = mechanism("poisson-hajek").scoring
    representation = strategy("representation", parts.get("representation", "full"))()
    with pytest.raises(DeclarationError, match=reason):
        Mechanism("x", scoring, Uniform(), EveryK(k=4, prompt_block=8), representation, Greedy())


def test_a_prompt_that_is_left_whole_is_not_cut_in_blocks() -> None:
    """`prefill: false` says the opposite."""
    with pytest.raises(DeclarationError, match="prompt_block=8 and prefill: false"):
        Hysteresis(slack=8, prefill=False, prompt_block=8)


def test_what_stays_as_it_was_has_the_identity_that_it_had() -> None:
    """Cadences that cut a prompt once are the cells that they were."""
    assert "prompt_block" not in EveryK(k=4).identity()
    assert EveryK(k=4, prompt_block=8).identity()["prompt_block"] == 8


@pytest.mark.parametrize("chunk", [0, -16, 24])
def test_a_chunk_is_of_whole_buckets(toy_llama: LoadedModel, chunk: int) -> None:
    """Another size would pad every chunk."""
    full = mechanism("full").override("full", decoding=Greedy())
    with pytest.raises(DeclarationError, match=f"prefill_chunk must be a multiple of 16, got {chunk}"):
        Engine(toy_llama, full, None, rows=1, max_new_tokens=2, max_prompt_tokens=4, prefill_chunk=chunk)
