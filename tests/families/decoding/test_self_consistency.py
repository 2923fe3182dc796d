"""Self-consistency: budgets of the samples, that they are samples of their own, and their certainty."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from designspace.axes import Budget, Generation
from designspace.axes.voting import combine, sample_requests
from designspace.errors import DeclarationError, InfeasibleBudget
from families.cadence.every_k import EveryK
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from tests.families.decoding.toy import compose, everything, model, request, run, uncut

SAMPLING = Sampling(temperature=1.0, top_p=0.95)


def sampled(decoding: SelfConsistency, budget: int = 40, **axes: object) -> list[Generation]:
    """Return the samples of one problem."""
    return run(compose(decoding, **axes), *sample_requests(request(), decoding.samples), budget=Budget(budget))


@pytest.mark.parametrize("of", ["mean", "peak", "nominal"])
def test_a_sample_gets_its_part_of_the_budget(of: str) -> None:
    """Whole tokens of a k-th at equal peak, all of it at equal integral; the reading stays."""
    budget = Budget(50, of)  # type: ignore[arg-type]

    assert SelfConsistency(samples=8).sample_budget(budget) == Budget(6, of)  # type: ignore[arg-type]
    assert SelfConsistency(samples=8, matched="integral").sample_budget(budget) == budget
    assert SelfConsistency(samples=1).sample_budget(budget) == budget
    with pytest.raises(InfeasibleBudget, match="51 samples cannot share a budget of 50"):
        SelfConsistency(samples=51).sample_budget(budget)


@pytest.mark.parametrize(("samples", "budget"), [(2, 20), (3, 40), (4, 41)])
def test_concurrent_samples_never_hold_more_than_the_budget(samples: int, budget: int) -> None:
    """Cut at every step, the samples' sizes add up to at most the budget at every step."""
    decoding = SelfConsistency(samples=samples, decoding=SAMPLING)
    made = sampled(decoding, budget)
    voted = combine("p0", made, [None] * samples, decoding.matched)

    assert len({g.token_ids for g in made}) == samples
    assert max(voted.cache_tokens_per_step) == voted.peak_cache_tokens == samples * (budget // samples) <= budget
    assert list(voted.cache_tokens_per_step) == [
        sum(column) for column in zip(*(g.cache_tokens_per_step for g in made), strict=True)
    ]


def test_concurrent_samples_hold_the_budget_on_average() -> None:
    """Cut in blocks, the steady mean of all together is the mean that was asked for."""
    decoding = SelfConsistency(samples=4, decoding=SAMPLING)
    made = sampled(decoding, 40, cadence=EveryK(k=3))
    voted = combine("p0", made, [None] * 4, "peak")

    assert voted.steady_mean_cache_tokens == pytest.approx(40, abs=0.5)


def test_sequential_samples_cost_k_times_one() -> None:
    """Each at the full budget: the cache-token-steps of one sample, as often as there are samples."""
    decoding = SelfConsistency(samples=3, matched="integral", decoding=SAMPLING)
    made = sampled(decoding, 10)
    (alone,) = run(compose(SAMPLING), request())
    voted = combine("p0", made, [None] * 3, "integral")

    assert sum(voted.cache_tokens_per_step) == 3 * sum(alone.cache_tokens_per_step)
    assert voted.n_steps == 3 * alone.n_steps
    assert voted.peak_cache_tokens == alone.peak_cache_tokens
    assert voted.mean_cache_bytes == alone.mean_cache_bytes


@pytest.mark.parametrize("matched", ["peak", "integral"])
def test_one_sample_is_the_chooser_alone(matched: str) -> None:
    """Request, budget, generation and vote."""
    decoding = SelfConsistency(samples=1, matched=matched, decoding=SAMPLING)  # type: ignore[arg-type]
    (base,) = run(compose(SAMPLING), request())
    made = sampled(decoding, 10)

    assert everything(combine("p0", made, ["7"], decoding.matched)) == everything(base)


def test_the_first_sample_is_the_one_of_a_single_run() -> None:
    """At equal integral, sample 0 is what the chooser alone makes of the problem; the others are other texts."""
    made = sampled(SelfConsistency(samples=3, matched="integral", decoding=SAMPLING), 10)
    (alone,) = run(compose(SAMPLING), request())

    assert everything(replace(made[0], mean_log_prob=None)) == everything(alone)
    assert len({g.token_ids for g in made}) == 3


def test_samples_do_not_depend_on_their_number_or_batch() -> None:
    """The third of five is the third of three, among whatever mates."""
    five = sampled(SelfConsistency(samples=5, matched="integral", decoding=SAMPLING), 10)
    three = sampled(SelfConsistency(samples=3, matched="integral", decoding=SAMPLING), 10)

    assert [everything(g) for g in five[:3]] == [everything(g) for g in three]


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_certainty_is_the_models_own(temperature: float) -> None:
    """The mean log-probability of a full cache's text is that of one pass over it, whatever the temperature."""
    decoding = SelfConsistency(samples=2, decoding=Sampling(temperature=temperature, top_p=0.9))
    asked = sample_requests(request(), 2)
    config = copy.deepcopy(model().model.config)
    plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    plain.load_state_dict(model().model.state_dict())

    for made in run(uncut(decoding), *asked, budget=None):
        ids = [*request().prompt_ids, *made.token_ids]
        with torch.inference_mode():
            logits = plain(input_ids=torch.tensor([ids])).logits[0]
        parts = [float(torch.log_softmax(logits[i - 1], dim=-1)[ids[i]]) for i in range(12, len(ids))]
        assert made.mean_log_prob == pytest.approx(sum(parts) / len(parts), abs=1e-5)


def test_certainty_is_not_computed_for_single_runs() -> None:
    """Other decodings pay nothing for it."""
    assert run(compose(SAMPLING), request())[0].mean_log_prob is None


def test_a_greedy_chooser_is_refused() -> None:
    """All samples would be the same, also behind a cue; one sample may be greedy."""
    with pytest.raises(DeclarationError, match=r"must draw random numbers.*got decoding='greedy'"):
        SelfConsistency(decoding=Greedy())
    with pytest.raises(DeclarationError, match="must draw random numbers"):
        SelfConsistency(decoding=ChainOfThought()).with_default_chooser(Greedy())
    assert SelfConsistency(samples=1).with_default_chooser(Greedy()).samples == 1


def test_bad_number() -> None:
    """Refused with the rule and what was got."""
    with pytest.raises(DeclarationError, match="samples must be at least 1, got samples=0"):
        SelfConsistency(samples=0)
