"""The oracle against transformers' own attention weights over the text that the full cache writes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers import AutoModelForCausalLM

from designspace.axes import Budget, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.oracle import Oracle
from tests.conftest import start, toy_model

PROMPT = tuple(int(x) for x in torch.randint(5, 90, (24,), generator=torch.Generator().manual_seed(1)))
N_NEW, BUDGET = 30, 14


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A random model with groups of two query heads."""
    return toy_model()


def oracle(loaded: LoadedModel, scoring: Oracle, rows: int = 1, budget: int = BUDGET) -> Engine:
    """Return an engine that cuts every four steps."""
    mechanism = Mechanism("oracle", scoring, Uniform(), EveryK(k=4), FullPrecision(), Greedy())
    return Engine(loaded, mechanism, Budget(budget), rows=rows, max_new_tokens=N_NEW, max_prompt_tokens=len(PROMPT))


@torch.inference_mode()
def future_weights(loaded: LoadedModel) -> list[torch.Tensor]:
    """Return per layer the weights [H_q,T,T] over the prompt and the text that transformers writes greedily."""
    config = deepcopy(loaded.model.config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    model.load_state_dict(loaded.model.state_dict())
    ids = torch.tensor([PROMPT])
    eos = sorted(loaded.eos_ids)
    text = model.generate(ids, do_sample=False, max_new_tokens=N_NEW, eos_token_id=eos, pad_token_id=0)
    return [of_layer[0] for of_layer in model(text, output_attentions=True).attentions]


def test_the_first_event_keeps_what_is_attended_to_later(loaded: LoadedModel) -> None:
    """Per head: the tokens of the prompt with the largest weight from any later query of the group."""
    engine = oracle(loaded, Oracle())
    request = Request("p", PROMPT, stream_key(0, "p", 0))
    with torch.inference_mode():
        start(engine, 0, request)
    group, n_prompt = loaded.geometry.group, len(PROMPT)
    for layer, weights in enumerate(future_weights(loaded)):
        for head in range(loaded.geometry.n_kv_heads):
            later = weights[head * group : (head + 1) * group, n_prompt:, :n_prompt].amax(dim=(0, 1))
            held = engine.cache.positions[layer, 0, head]
            held = sorted(held[held >= 0].tolist())
            assert sorted(later.topk(len(held)).indices.tolist()) == held


def test_the_text_may_be_given(loaded: LoadedModel) -> None:
    """As the full cache writes it: what is kept is the same as when the engine writes it itself."""
    request = Request("p", PROMPT, stream_key(0, "p", 0))
    (whole,) = oracle(loaded, Oracle(), budget=80).generate([request])
    (own,) = oracle(loaded, Oracle()).generate([request])
    given = Request("p", PROMPT, stream_key(0, "p", 0), foreseen=whole.token_ids)
    (same,) = oracle(loaded, Oracle()).generate([given])
    assert own.token_ids == same.token_ids
    assert own.n_events > 2


def test_rows_do_not_depend_on_their_neighbours(loaded: LoadedModel) -> None:
    """Three prompts of different lengths, together and alone."""
    requests = [Request(f"p{n}", PROMPT[:n], stream_key(0, f"p{n}", 0)) for n in (24, 11, 17)]
    together = {g.problem_id: g.token_ids for g in oracle(loaded, Oracle(), rows=3).generate(requests)}
    for request in requests:
        (alone,) = oracle(loaded, Oracle(), rows=3).generate([request])
        assert together[request.problem_id] == alone.token_ids
