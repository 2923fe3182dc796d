"""A model's own `generate` with a compressed cache, against the engine token by token, and against transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, MaxLengthCriteria, StoppingCriteriaList

from designspace.axes import Budget, Generation, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError, DesignspaceError, ModelError
from designspace.models.loading import LoadedModel, prepare
from designspace.program.compression import compress
from designspace.program.generated_text import NothingCompressed
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import toy_statistics

N_NEW = 24
PAD = 0
PROMPTS = tuple(tuple((7 * i * i + 11 * i + 3 * n) % 90 + 5 for i in range(n)) for n in (45, 9, 14))
MECHANISMS = {"snapkv": 44, "streaming-llm": 16, "triattention": 16, "knorm": 16, "kivi": None, "full": None}


def new_model() -> Any:
    """Return a random Llama as transformers makes it."""
    config = AutoConfig.for_model(
        "llama", vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, bos_token_id=1, eos_token_id=None,
        pad_token_id=PAD, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def hf_model() -> Any:
    """The model as a user has it."""
    return new_model()


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """The same weights, ready for the engine, with made-up statistics."""
    found = prepare(new_model())
    found.measured.update(toy_statistics(found))
    return found


@pytest.fixture(autouse=True)
def as_it_was(hf_model: Any) -> Iterator[None]:
    """No test leaves anything on the model."""
    yield
    assert "generate" not in vars(hf_model)
    assert hf_model.config._attn_implementation == "sdpa"


def batch(prompts: tuple[tuple[int, ...], ...] = PROMPTS) -> dict[str, Tensor]:
    """Return prompts as a tokenizer pads them on the left."""
    longest = max(map(len, prompts))
    ids = [[PAD] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def written_by_engine(loaded: LoadedModel, name: str, eos: frozenset[int]) -> list[Generation]:
    """Return what an engine writes for the prompts, by row."""
    greedy = mechanism(name).override(name, decoding=Greedy())
    budget, artefacts = MECHANISMS[name], {one: loaded.measured[one] for one in greedy.needs().calibrations}
    engine = Engine(
        replace(loaded, eos_ids=eos),
        greedy,
        None if budget is None else Budget(budget),
        rows=3,
        max_new_tokens=N_NEW,
        max_prompt_tokens=45,
        artefacts=artefacts,
    )
    made = engine.generate(Request(str(i), prompt, stream_key(0, "", i)) for i, prompt in enumerate(PROMPTS))
    return sorted(made, key=lambda generation: int(generation.problem_id))


def account(generation: Generation) -> Generation:
    """Return a generation without its clock and its names."""
    return replace(generation, wall_s=0.0, problem_id="", stream=b"")


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_tokens_and_the_ledger_are_the_engines(name: str, loaded: LoadedModel) -> None:
    """Of three prompts padded on the left, one of which ends before the others."""
    open_ended = written_by_engine(loaded, name, frozenset())
    eos = open_ended[0].token_ids[N_NEW // 2]
    expected = written_by_engine(loaded, name, frozenset({eos}))
    with compress(loaded, name, MECHANISMS[name]) as compressed:
        found = loaded.model.generate(**batch(), max_new_tokens=N_NEW, do_sample=False, eos_token_id=eos)

    longest = max(one.n_new_tokens for one in expected)
    assert len({one.n_new_tokens for one in expected}) > 1
    assert [row.tolist() for row in found] == [
        [*ids, *one.token_ids, *[PAD] * (longest - one.n_new_tokens)]
        for ids, one in zip(batch()["input_ids"].tolist(), expected, strict=True)
    ]
    assert [account(one) for one in compressed.ledger] == [account(one) for one in expected]
    assert any(one.n_events for one in expected) == (name not in ("kivi", "full"))


def test_the_full_cache_is_transformers_own(hf_model: Any) -> None:
    """With padding: the same tokens as without us, by greedy search, and by sampling with processors from the same seed."""
    options = {"max_new_tokens": N_NEW, "pad_token_id": PAD}
    drawn = {"do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3}
    greedy = hf_model.generate(**batch(), do_sample=False, **options)
    torch.manual_seed(1)
    sampled = hf_model.generate(**batch(), num_return_sequences=2, **drawn, **options)
    with compress(hf_model, "full"):
        assert torch.equal(hf_model.generate(**batch(), do_sample=False, **options), greedy)
        torch.manual_seed(1)
        assert torch.equal(hf_model.generate(**batch(), num_return_sequences=2, **drawn, **options), sampled)


def test_what_the_loop_offers_works(hf_model: Any) -> None:
    """A streamer gets all tokens, scores are returned, a prompt alone needs no mask, and the settings may be an object."""

    class Streamer:
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.tokens.append(-1)

    streamer, prompt = Streamer(), torch.tensor([PROMPTS[0]])
    settings = replace_settings(hf_model, max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False)
    with compress(hf_model, "streaming-llm", 16) as compressed:
        whole = hf_model.generate(prompt, settings, streamer=streamer, return_dict_in_generate=True, output_scores=True)

    assert streamer.tokens == [*whole.sequences[0].tolist(), -1]
    assert [int(score.argmax()) for score in whole.scores] == whole.sequences[0, 45:].tolist()
    assert compressed.ledger[0].token_ids == tuple(whole.sequences[0, 45:].tolist())
    assert "streaming-llm at budget 16: 24 tokens to its cap" in repr(compressed)


def replace_settings(hf_model: Any, **changes: Any) -> Any:
    """Return the model's generation settings, changed."""
    settings = type(hf_model.generation_config).from_dict(hf_model.generation_config.to_dict())
    settings.update(**changes)
    return settings


def test_the_model_is_given_back_as_it_was(hf_model: Any, loaded: LoadedModel) -> None:
    """Also after an error, with its modes and gradients; and within the block its forward pass is its own."""
    before = hf_model(**batch()).logits
    hf_model.train()
    hf_model.lm_head.weight.requires_grad_(False)
    try:
        with pytest.raises(IndexError), compress(hf_model, "knorm", 16):
            assert hf_model.generate(**batch(), max_new_tokens=4, do_sample=False)[3] is None
        assert hf_model.training
        assert [p.requires_grad for p in hf_model.parameters()].count(False) == 1
    finally:
        hf_model.eval().requires_grad_(True)
    with compress(hf_model, "knorm", 16):
        assert torch.equal(hf_model(**batch()).logits, before)


def test_an_error_in_generate_leaves_nothing(hf_model: Any) -> None:
    """The next call starts anew, and has no account of the one that failed."""
    calls = []

    def stop(_: Tensor, scores: Tensor) -> Tensor:
        calls.append(scores)
        if len(calls) == 5:
            raise RuntimeError("stopped")
        return scores

    options = {"max_new_tokens": N_NEW, "do_sample": False}
    with compress(hf_model, "knorm", 16) as compressed:
        expected = hf_model.generate(**batch(), **options)
        with pytest.raises(RuntimeError, match="stopped"):
            hf_model.generate(**batch(), logits_processor=[stop], **options)
        assert compressed.ledger == ()
        assert hf_model.config._attn_implementation == "sdpa"
        assert torch.equal(hf_model.generate(**batch(), **options), expected)
        assert len(compressed.ledger) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("num_beams", {"num_beams": 2}),
        ("past_key_values", {"past_key_values": DynamicCache()}),
        ("use_cache", {"use_cache": False}),
        ("stopping_criteria", {"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(30)])}),
        ("output_attentions", {"output_attentions": True, "return_dict_in_generate": True}),
        ("position_ids", {"position_ids": torch.zeros(3, 45, dtype=torch.long)}),
        ("prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 2}),
        ("max_time", {"max_time": 9.0}),
        ("guidance_scale", {"guidance_scale": 2.0}),
        ("inputs_embeds", {"inputs_embeds": torch.zeros(3, 45, 64)}),
        ("cache_implementation", {"cache_implementation": "static"}),
        ("token_type_ids", {"token_type_ids": torch.zeros(3, 45, dtype=torch.long)}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_would_mean_something_else_is_refused(name: str, options: dict[str, Any], hf_model: Any) -> None:
    """By its name."""
    with compress(hf_model, "knorm", 16), pytest.raises((DeclarationError, ValueError), match=name):
        hf_model.generate(**batch(), max_new_tokens=4, do_sample=False, **options)


def test_padding_is_on_the_left(hf_model: Any) -> None:
    """A tokenizer that pads on the right, or a prompt of nothing, would give other texts without a word."""
    padded = batch()
    right = {name: value.flip(1) for name, value in padded.items()}
    empty = padded | {"attention_mask": padded["attention_mask"] * torch.tensor([[1], [0], [1]])}
    with compress(hf_model, "knorm", 16):
        with pytest.raises(DeclarationError, match=r"must be on the left .*got row 1"):
            hf_model.generate(**right, max_new_tokens=4, do_sample=False)
        with pytest.raises(DeclarationError, match="got row 1 with none"):
            hf_model.generate(**empty, max_new_tokens=4, do_sample=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("snapk", 16), "did you mean 'snapkv'"),
        (("snapkv",), "so it needs a budget"),
        (("chain-of-thought", 16), "by decoding 'chain-of-thought'"),
        (("state-emit", 16), "by decoding 'state-emit'"),
        (("self-consistency", 16), "must draw random numbers"),
        (("triattention", 16), "needs calibration 'q-stats', which a model in memory comes without"),
    ],
)
def test_what_cannot_run_is_refused_at_the_door(arguments: tuple[Any, ...], message: str, hf_model: Any) -> None:
    """Before anything is generated."""
    with pytest.raises(DesignspaceError, match=message), compress(hf_model, *arguments):
        pytest.fail("entered")


def test_blocks_do_not_nest(hf_model: Any) -> None:
    """Which of two mechanisms would run? The outer one is still there afterwards."""
    with compress(hf_model, "knorm", 16) as outer:
        with pytest.raises(DeclarationError, match="compressed already"), compress(hf_model, "snapkv", 16):
            pytest.fail("entered")
        hf_model.generate(**batch(), max_new_tokens=8, do_sample=False)
        assert len(outer.ledger) == 3


def test_no_model_is_named() -> None:
    """A name has no `generate` to run."""
    with pytest.raises(ModelError, match="got str"):
        compress("pocket-llama", "knorm", 16)


def test_a_budget_that_never_bites_is_said(hf_model: Any) -> None:
    """The texts are those of the full cache then."""
    with compress(hf_model, "knorm", 400), pytest.warns(NothingCompressed, match="longest text has 47 tokens"):
        hf_model.generate(**batch(), max_new_tokens=2, do_sample=False)
