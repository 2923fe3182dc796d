"""Prompts run in fixed shapes, ahead of need and once; what comes out is as if each had run alone."""

from __future__ import annotations

from collections import deque

import pytest
import torch

from designspace.axes import Needs, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.prefill import Prefill, bucket, prompts_kept, prompts_per_pass
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.decoding.greedy import Greedy

NEEDS = Needs(queries=4, accumulated=True, last=True, layer_cosine=True)
LENGTHS = (5, 13, 16, 17, 30, 2, 31, 9, 8, 1, 12, 14, 15)


def prompts() -> list[tuple[int, ...]]:
    """Distinct prompts of two buckets."""
    random = torch.Generator().manual_seed(1)
    return [tuple(torch.randint(2, 97, (n,), generator=random).tolist()) for n in LENGTHS]


def asked(ids: list[tuple[int, ...]]) -> deque[Request]:
    """A request for each."""
    return deque(Request(str(i), prompt, stream_key(0, str(i), 0)) for i, prompt in enumerate(ids))


def prefill(loaded: LoadedModel) -> Prefill:
    """A prefill that observes everything."""
    return Prefill(loaded, NEEDS, None, loaded.output_projection())


def pop_all(one: Prefill, queue: deque[Request]) -> dict[tuple[int, ...], list[torch.Tensor]]:
    """Pop every prompt in order; return all tensors of each."""
    one.announce(queue)
    tensors = {}
    while queue:
        (prompt, logits), ids = one.pop_prompt(queue), queue[0].prompt_ids
        seen = prompt.observed
        tensors[ids] = [logits, prompt.keys, prompt.values, prompt.positions, seen.queries, seen.query_positions]
        tensors[ids] += [seen.accumulated, seen.last, seen.layer_cosine]
        queue.popleft()
    return tensors


def test_a_prompt_does_not_depend_on_its_companions(toy_llama: LoadedModel) -> None:
    """Another order, fewer prompts, or alone: equal to the bit."""
    ids = prompts()
    straight = pop_all(prefill(toy_llama), asked(ids))
    for others in ([*reversed(ids)], ids[3:8], *([prompt] for prompt in ids)):
        for prompt, tensors in pop_all(prefill(toy_llama), asked(others)).items():
            assert all(torch.equal(a, b) for a, b in zip(straight[prompt], tensors, strict=True))


def test_equals_the_model_run_without_padding(toy_llama: LoadedModel) -> None:
    """Logits after each prompt agree with the model's own on the bare prompt."""
    import copy

    plain = copy.deepcopy(toy_llama.model)
    plain.set_attn_implementation("sdpa")
    for prompt, (logits, *_) in pop_all(prefill(toy_llama), asked(prompts())).items():
        with torch.no_grad():
            expected = plain(input_ids=torch.tensor([prompt])).logits[:, -1]
        assert (logits - expected).abs().max() < 1e-5


def test_each_distinct_prompt_is_encoded_once(toy_llama: LoadedModel) -> None:
    """Replicates far apart in the queue share one pass, and nothing is kept at the end."""
    one, ids = prefill(toy_llama), prompts()
    pop_all(one, asked(ids * 3))

    assert one.n_encoded == len(ids)
    assert one.n_waiting == 0


def test_what_is_kept_is_bounded(toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for fewer prompts than wait, the oldest are encoded again, to the same bits."""
    ids = prompts()
    straight = pop_all(prefill(toy_llama), asked(ids * 2))
    monkeypatch.setattr("designspace.engine.prefill._MOST_KEPT", 2)
    one = prefill(toy_llama)
    again = pop_all(one, asked(ids * 2))

    assert one.n_encoded > len(ids)
    for prompt, tensors in straight.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, again[prompt], strict=True))


def test_an_engine_encodes_the_samples_of_a_problem_once(toy_llama: LoadedModel) -> None:
    """And forgets everything when it is done."""
    arm = mechanism("full").override("full", decoding=Greedy())
    engine = Engine(toy_llama, arm, None, rows=2, max_new_tokens=4, max_prompt_tokens=31)
    ids = prompts()[:4]
    done = list(engine.generate(asked([prompt for prompt in ids for _ in range(3)])))

    assert len(done) == 12
    assert engine.prefill.n_encoded == 4
    assert engine.prefill.n_waiting == 0


def test_shapes_depend_on_the_length_alone() -> None:
    """Longer prompts run fewer at a time, the longest alone."""
    assert [bucket(n) for n in (1, 16, 17, 32, 33)] == [16, 16, 32, 32, 48]
    assert [prompts_per_pass(n) for n in (16, 256, 272, 1024, 2048, 8192)] == [8, 8, 7, 2, 1, 1]
    assert [prompts_kept(n) for n in (16, 256, 512, 2048, 32768)] == [64, 64, 32, 8, 1]
