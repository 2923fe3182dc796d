"""One generation out of several samples of a problem: whose answer is returned, and what all of them together cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Literal

from designspace.axes.generation import Generation, Request
from designspace.axes.randomness import sample_streams

Matched = Literal["peak", "integral"]


def sample_requests(request: Request, samples: int) -> list[Request]:
    """Return the requests for the samples of a problem, each with a random stream of its own; the first is `request`.

    Their ids are the problem's with `#1`, `#2`, … after it, so that one engine may run them side by side.
    """
    streams = sample_streams(request.stream, samples)
    others = [
        replace(request, problem_id=f"{request.problem_id}#{i}", stream=stream)
        for i, stream in enumerate(streams[1:], start=1)
    ]
    return [request, *others]


def winner(answers: Sequence[str | None], log_probs: Sequence[float | None]) -> int:
    """Return the index of the sample to return.

    The commonest answer wins; None abstains. Of equally common ones it is the one whose samples have the higher mean token
    log-probability on average, then the one seen first. Of the samples that gave it, and of all where every one abstained,
    the same rule picks one.

    Raises:
        ValueError: no samples, or not one log-probability per answer.
    """
    if not answers or len(answers) != len(log_probs):
        raise ValueError(f"needs as many log_probs as answers, got {len(log_probs)} and {len(answers)}")
    groups: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            groups.setdefault(answer, []).append(index)
    certainty = [float("-inf") if log_prob is None else log_prob for log_prob in log_probs]
    voters = max(
        groups.values(),
        key=lambda group: (len(group), sum(certainty[index] for index in group) / len(group)),
        default=list(range(len(answers))),
    )
    return max(voters, key=lambda index: certainty[index])


def combine(
    problem_id: str, generations: Sequence[Generation], answers: Sequence[str | None], matched: Matched
) -> Generation:
    """Return the winning sample with the account of all of them; a single sample is returned as it is.

    answers: canonical, in the order of the generations. `peak`: all ran at the same time, so at each step their sizes add
    up, a finished sample holding nothing; bytes at the peak are the sum of each one's own peak, an upper bound. `integral`:
    one after the other. The steady mean is the sum, or the mean, over the samples, None where one of them has none. Extra
    tokens are all those generated for samples that are not returned. wall_s: of the longest, or of all.

    Raises:
        ValueError: no generations, or not one answer for each.
    """
    chosen = winner(answers, [generation.mean_log_prob for generation in generations])
    if len(generations) == 1:
        return replace(generations[0], problem_id=problem_id)
    together = matched == "peak"
    per_step = [generation.cache_tokens_per_step for generation in generations]
    sizes = tuple(map(sum, zip_longest(*per_step, fillvalue=0.0))) if together else tuple(chain(*per_step))
    n_steps = len(sizes)

    def mean_over_steps(value: Callable[[Generation], float]) -> float:
        return sum(value(g) * g.n_steps for g in generations) / n_steps if n_steps else 0.0

    n_unreturned = sum(g.n_new_tokens for index, g in enumerate(generations) if index != chosen)
    return replace(
        generations[chosen],
        problem_id=problem_id,
        n_steps=n_steps,
        n_events=sum(g.n_events for g in generations),
        n_evicted=sum(g.n_evicted for g in generations),
        n_extra_tokens=n_unreturned + sum(g.n_extra_tokens for g in generations),
        mean_cache_tokens=sum(sizes) / n_steps if n_steps else 0.0,
        steady_mean_cache_tokens=_steady_mean(generations, together),
        peak_cache_tokens=max(sizes, default=0.0),
        mean_cache_bytes=mean_over_steps(lambda g: g.mean_cache_bytes),
        peak_cache_bytes=(sum if together else max)(g.peak_cache_bytes for g in generations),
        mean_read_bytes=mean_over_steps(lambda g: g.mean_read_bytes),
        mean_aux_bytes=mean_over_steps(lambda g: g.mean_aux_bytes),
        cache_tokens_per_step=sizes,
        wall_s=(max if together else sum)(g.wall_s for g in generations),
    )


def _steady_mean(generations: Sequence[Generation], together: bool) -> float | None:
    means = [g.steady_mean_cache_tokens for g in generations if g.steady_mean_cache_tokens is not None]
    if len(means) < len(generations):
        return None
    return sum(means) if together else sum(means) / len(means)
