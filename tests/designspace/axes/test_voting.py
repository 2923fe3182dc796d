"""Voting: whose answer wins, and the account of all samples together."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from designspace.axes import Generation, Request
from designspace.axes.randomness import sample_streams, stream_key
from designspace.axes.voting import combine, sample_requests, winner
from designspace.tasks.grading import MathGrader


def generation(name: str, sizes: tuple[float, ...], n_new: int, **extra: object) -> Generation:
    """Return a made-up sample."""
    numbers: dict[str, object] = {
        "problem_id": name, "stream": name.encode(), "token_ids": tuple(range(n_new)), "finish_reason": "stop",
        "n_prompt_tokens": 5,
        "n_steps": len(sizes), "n_events": 2, "n_evicted": 30, "n_extra_tokens": 0,
        "mean_cache_tokens": sum(sizes) / len(sizes) if sizes else 0.0, "steady_mean_cache_tokens": 4.0,
        "peak_cache_tokens": max(sizes, default=0.0), "mean_cache_bytes": 100.0, "peak_cache_bytes": 120,
        "mean_read_bytes": 90.0, "mean_aux_bytes": 8.0, "cache_tokens_per_step": sizes, "wall_s": 2.0,
    }  # fmt: skip
    return Generation(**(numbers | extra))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "log_probs", "expected"),
    [
        (["7", "7", "9"], [-2.0, -1.0, -0.1], 1),  # the majority; of its samples the surer
        (["7", "9", None], [-1.0, -0.5, -0.1], 1),  # one each: the higher log-probability; the unanswered abstains
        (["7", "9", None], [-0.5, -1.0, -0.1], 0),
        (["9", "7"], [-1.0, -1.0], 0),  # then the first seen
        ([None, None, "3"], [-0.1, -0.1, -9.0], 2),  # a single answer beats any number of abstentions
        ([None, None], [-2.0, -1.0], 1),  # nobody answers
        (["1", "2", "2", "1"], [-1.0, -0.2, -2.0, -1.0], 0),  # tied 2:2; -1.0 on average against -1.1
        (["1", "2", "2", "1"], [-1.0, -0.2, -1.6, -1.0], 1),  # -1.0 against -0.9
        (["5"], [None], 0),
        (["5", "5"], [None, None], 0),
        (["5", "6"], [None, -3.0], 1),
    ],
)
def test_the_winner(answers: list[str | None], log_probs: list[float | None], expected: int) -> None:
    """Majority over answers, ties to the surer samples, then to the first."""
    assert winner(answers, log_probs) == expected


def test_the_winner_by_brute_force() -> None:
    """Over random votes the winner's answer has the most votes, and shuffling the samples leaves it."""
    rng = random.Random(0)
    for _ in range(300):
        answers = [rng.choice(["a", "b", "c", None]) for _ in range(rng.randrange(1, 7))]
        log_probs = [-rng.random() for _ in answers]
        chosen = winner(answers, log_probs)
        votes = Counter(answer for answer in answers if answer is not None)
        if votes:
            assert votes[str(answers[chosen])] == max(votes.values())
        for order in itertools.islice(itertools.permutations(range(len(answers))), 10):
            again = winner([answers[i] for i in order], [log_probs[i] for i in order])
            assert order[again] == chosen


@pytest.mark.parametrize(("answers", "log_probs"), [([], []), (["1"], [])])
def test_votes_must_be_complete(answers: list[str | None], log_probs: list[float | None]) -> None:
    """No samples, or a missing log-probability, is an error."""
    with pytest.raises(ValueError, match="needs as many log_probs as answers"):
        winner(answers, log_probs)


SAMPLES = [
    generation("p", (6.0, 7.0, 8.0), 4, mean_log_prob=-1.0, steady_mean_cache_tokens=7.0, mean_cache_bytes=70.0),
    generation("p#1", (6.0,), 2, mean_log_prob=-0.5, mean_cache_bytes=60.0, wall_s=0.5, finish_reason="length"),
    generation("p#2", (6.0, 5.0, 6.0, 5.0), 5, mean_log_prob=-2.0, n_extra_tokens=3, mean_cache_bytes=55.0,
               peak_cache_bytes=60),
]  # fmt: skip


def test_samples_at_the_same_time() -> None:
    """Sizes add up step by step, a finished sample holding nothing; the text is the winner's."""
    voted = combine("p", SAMPLES, ["7", "9", "9"], "peak")

    assert voted.cache_tokens_per_step == (18.0, 12.0, 14.0, 5.0)
    assert (voted.n_steps, voted.mean_cache_tokens, voted.peak_cache_tokens) == (4, 49 / 4, 18.0)
    assert voted.steady_mean_cache_tokens == 7.0 + 4.0 + 4.0
    assert voted.mean_cache_bytes == (3 * 70 + 1 * 60 + 4 * 55) / 4
    assert voted.peak_cache_bytes == 120 + 120 + 60
    assert voted.mean_read_bytes == 90 * 8 / 4
    assert voted.mean_aux_bytes == 8 * 8 / 4
    assert (voted.n_events, voted.n_evicted, voted.wall_s) == (6, 90, 2.0)
    assert (voted.problem_id, voted.token_ids, voted.finish_reason, voted.mean_log_prob) == (
        "p",
        (0, 1),
        "length",
        -0.5,
    )
    assert voted.n_extra_tokens == 4 + 5 + 3
    assert voted.n_prompt_tokens == 5


def test_samples_one_after_the_other() -> None:
    """Steps are those of all samples, so the mean is over all of them."""
    voted = combine("p", SAMPLES, ["7", "7", None], "integral")

    assert voted.cache_tokens_per_step == (6.0, 7.0, 8.0, 6.0, 6.0, 5.0, 6.0, 5.0)
    assert (voted.n_steps, voted.mean_cache_tokens, voted.peak_cache_tokens) == (8, 49 / 8, 8.0)
    assert voted.steady_mean_cache_tokens == 5.0
    assert voted.mean_cache_bytes == (3 * 70 + 1 * 60 + 4 * 55) / 8
    assert (voted.peak_cache_bytes, voted.mean_read_bytes, voted.mean_aux_bytes) == (120, 90.0, 8.0)
    assert voted.wall_s == 4.5
    assert (voted.n_extra_tokens, voted.n_new_tokens) == (4 + 5 + 3, 2)


@pytest.mark.parametrize("matched", ["peak", "integral"])
def test_special_cases_of_the_account(matched: str) -> None:
    """One sample comes back as it is; samples without a step, or without an event, are counted as such."""
    assert combine("p", SAMPLES[:1], [None], matched) == SAMPLES[0]  # type: ignore[arg-type]
    empty = combine("p", [generation("p", (), 1), generation("p#1", (), 1)], ["1", "1"], matched)  # type: ignore[arg-type]
    assert (empty.n_steps, empty.mean_cache_tokens, empty.mean_cache_bytes, empty.peak_cache_tokens) == (
        0,
        0.0,
        0.0,
        0.0,
    )
    uncut = generation("p#1", (6.0,), 2, steady_mean_cache_tokens=None)
    assert combine("p", [SAMPLES[0], uncut], ["1", "1"], matched).steady_mean_cache_tokens is None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs as many"):
        combine("p", SAMPLES, ["1"], matched)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{7}", "7"), (r"\boxed{3} no, \boxed{ 07 }", "7"), (r"\boxed{\frac{1}{2}}", "1/2"), (r"\boxed{0.5}", "1/2"),
        (r"\boxed{x + 1}", "x+1"), (r"\boxed{x+1}", "x+1"), ("the answer is 7", None), (r"\boxed{7", None), (r"\boxed{}", None),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
    ],
)  # fmt: skip
def test_canonical_answers(text: str, expected: str | None) -> None:
    """The strict reading, one spelling per number; nothing boxed is no answer."""
    assert MathGrader().vote(text) == expected


def test_sample_requests() -> None:
    """The first is the request itself; the others differ in name and stream alone, and no two streams are equal."""
    asked = Request("p", (1, 2, 3), stream_key(7, "p", 0), max_new_tokens=9)
    made = sample_requests(asked, 4)

    assert made[0] is asked
    assert [r.problem_id for r in made] == ["p", "p#1", "p#2", "p#3"]
    assert {(r.prompt_ids, r.max_new_tokens) for r in made} == {((1, 2, 3), 9)}
    assert len({r.stream for r in made}) == 4
    assert sample_requests(asked, 1) == [asked]


def test_sample_streams() -> None:
    """Sample 0 keeps the key; the others hang on key and index only, and meet no other replicate's."""
    keys = [stream_key(7, "p", replicate) for replicate in range(4)]
    streams = [stream for key in keys for stream in sample_streams(key, 5)]

    assert len(set(streams)) == 20
    assert all(len(stream) == 16 for stream in streams)
    assert sample_streams(keys[0], 1) == [keys[0]]
    assert sample_streams(keys[0], 3) == sample_streams(keys[0], 5)[:3]
