"""An engine that is fed its tokens: with its own choices it writes its own texts, and other tokens go other ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from designspace.axes import Budget, Generation, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.fed_engine import FedEngine
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency

N_NEW = 12
REQUESTS = tuple(Request(str(n), tuple(range(5, 5 + n)), stream_key(0, str(n), 0)) for n in (20, 7))


def engine(loaded: LoadedModel) -> Engine:
    """Return an engine of two rows."""
    knorm = mechanism("knorm").override("knorm", decoding=Greedy())
    return Engine(loaded, knorm, Budget(16), rows=2, max_new_tokens=N_NEW, max_prompt_tokens=20)


def fed_greedily(fed: FedEngine) -> tuple[Generation, ...]:
    """Feed the most probable tokens."""
    logits = fed.begin(REQUESTS)
    for _ in range(N_NEW - 1):
        logits = fed.feed(logits.argmax(dim=-1).tolist())
    return fed.finish(logits.argmax(dim=-1).tolist())


def test_its_own_choices_give_its_own_texts(toy_llama: LoadedModel) -> None:
    """With the same account of the cache; also where one text ends before the other."""
    free = {g.problem_id: g for g in engine(toy_llama).generate(REQUESTS)}
    eos = free["20"].token_ids[N_NEW // 2]
    expected = {g.problem_id: g for g in engine(replace(toy_llama, eos_ids=frozenset({eos}))).generate(REQUESTS)}
    for found in fed_greedily(FedEngine(engine(toy_llama), frozenset({eos}))):
        assert replace(found, wall_s=0.0) == replace(expected[found.problem_id], wall_s=0.0)


def test_other_tokens_are_taken_at_their_word(toy_llama: LoadedModel) -> None:
    """The text is what was fed, and the logits follow it."""
    fed, other = FedEngine(engine(toy_llama), frozenset()), FedEngine(engine(toy_llama), frozenset())
    assert fed.begin(REQUESTS).equal(other.begin(REQUESTS))
    assert not fed.feed([11, 12]).equal(other.feed([13, 12]))
    assert [one.token_ids for one in fed.finish([21, 22])] == [(11, 21), (12, 22)]


def test_a_batch_begins_once_and_whole(toy_llama: LoadedModel) -> None:
    """Rows are not filled again."""
    fed = FedEngine(engine(toy_llama), frozenset())
    with pytest.raises(InvariantViolation, match="2 requests, got 1"):
        fed.begin(REQUESTS[:1])
    fed.begin(REQUESTS)
    with pytest.raises(InvariantViolation, match="begin once"):
        fed.begin(REQUESTS)


def test_a_decoding_that_does_more_than_choose_is_refused(toy_llama: LoadedModel) -> None:
    """It goes by the tokens that it has chosen itself; one that only adds to the prompt does not."""
    for decoding, refused in ((SelfConsistency(decoding=Sampling()), True), (ChainOfThought(decoding=Greedy()), False)):
        made = Engine(
            toy_llama,
            mechanism("knorm").override("knorm", decoding=decoding),
            Budget(200),
            rows=2,
            max_new_tokens=N_NEW,
            max_prompt_tokens=20,
        )
        if refused:
            with pytest.raises(DeclarationError, match="'self-consistency' writes the text itself"):
                FedEngine(made, frozenset())
        else:
            FedEngine(made, frozenset())
