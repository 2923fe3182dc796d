"""Decodings in the words of a bundled model, through its own tokenizer."""

from __future__ import annotations

import pytest

from designspace.axes import Budget, Generation, Request
from designspace.axes.randomness import stream_key
from designspace.axes.voting import combine, sample_requests
from designspace.engine import Engine
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.tasks.chain_arithmetic import chain_arithmetic
from designspace.tasks.grading import MathGrader
from families.decoding.budget_forcing import BudgetForcing
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from families.decoding.state_emit import StateEmit
from families.decoding.thought_aware import ThoughtAware
from families.decoding.wrapped_decoding import Wrapping
from tests.families.decoding.toy import compose

PROBLEM = chain_arithmetic("dev", 2)[1]  # one that keeps a value and recalls it
SAMPLING = Sampling(temperature=0.5)


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """The bundled llama."""
    return load_model(ModelSpec.bundled("pocket-llama"))


def solve(pocket: LoadedModel, decoding: Wrapping, budget: int = 300, samples: int = 1) -> list[tuple[Generation, str]]:
    """Return generations of one problem, and their texts."""
    prompt = pocket.encode(decoding.format_prompt(PROBLEM.prompt))
    asked = sample_requests(Request("p", prompt, stream_key(0, "p", 0)), samples)
    running = Engine(
        pocket, compose(decoding), Budget(budget), rows=2, max_new_tokens=250, max_prompt_tokens=len(prompt)
    )
    made = sorted(running.generate(asked), key=lambda g: g.problem_id)
    return [(g, pocket.decode(g.token_ids)) for g in made]


def test_words_of_the_model(pocket: LoadedModel) -> None:
    """A budget-forced text thinks on, once, and stops at the maximum."""
    rule = BudgetForcing(tag="answer", wait="check", answer_cue="", max_thinking=None, decoding=SAMPLING)
    ((_, text),) = solve(pocket, rule)
    ((made, short),) = solve(
        pocket, BudgetForcing(tag="answer", waits=0, answer_cue="", max_thinking=40, decoding=SAMPLING)
    )
    ((base, plain),) = solve(pocket, ThoughtAware(mode="off", decoding=SAMPLING))

    n_before = plain.split().index("answer")
    assert text.split()[: n_before + 1] == [*plain.split()[:n_before], "check"]
    assert short.split()[:41] == [*plain.split()[:40], "answer"]
    assert made.n_new_tokens < base.n_new_tokens


def test_the_cue_is_in_the_models_words(pocket: LoadedModel) -> None:
    """A cue of its vocabulary lengthens the prompt by its tokens."""
    prompt, cued = PROBLEM.prompt, ChainOfThought(text=" so").format_prompt(PROBLEM.prompt)

    assert pocket.encode(cued) == (*pocket.encode(prompt), *pocket.token_ids("so"))


def test_steered_runs(pocket: LoadedModel) -> None:
    """Lines are rewritten, pinned and dropped by words of the language."""
    ((rolled, _),) = solve(pocket, Rollback(threshold=1.0, boundary="ok", retries=2, decoding=SAMPLING), budget=24)
    ((pinned, _),) = solve(
        pocket, StateEmit(instruction="", marker="ok", end="ok", most=4, decoding=SAMPLING), budget=24
    )
    ((dropped, _),) = solve(pocket, ThoughtAware("drop-thought", last=4, tag="answer", decoding=SAMPLING))

    assert rolled.n_extra_tokens > 0
    assert max(pinned.cache_tokens_per_step) <= 24
    assert dropped.cache_tokens_per_step[-1] < 100 < dropped.peak_cache_tokens


def test_a_vote(pocket: LoadedModel) -> None:
    """Three samples, their boxed answers, one generation."""
    decoding = SelfConsistency(samples=3, decoding=SAMPLING)
    made = solve(pocket, decoding, budget=900, samples=3)
    answers = [MathGrader().vote(text) for _, text in made]
    voted = combine("p", [g for g, _ in made], answers, decoding.matched)

    assert PROBLEM.answer in answers
    assert max(voted.cache_tokens_per_step) <= 900
    assert MathGrader().vote(pocket.decode(voted.token_ids)) == max(answers, key=answers.count)
