"""Thought-aware cache: finding the tag, and what is held after it."""

from __future__ import annotations

import random

import pytest
import torch

from designspace.axes import Budget
from designspace.engine import Engine
from designspace.errors import DeclarationError
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.decoding.sampling import Sampling
from families.decoding.thought_aware import TagMatcher, ThoughtAware
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import start
from tests.families.decoding.toy import TAG, compose, engine, model, request, run, scripted, uncut

THOUGHT = [50, 51, 52, 53, 54, 55, 56, 57]


@pytest.mark.parametrize(
    ("text", "acts_at"),
    [
        ([50, *TAG, 51], 3), ([*TAG], 2), ([20, *TAG], 3), ([20, 21, *TAG], 4),  # also where the tag begins twice
        ([22, 22, 21, 22, 20, 22], None), ([20, 21, 50, 22], None), ([50, *TAG, 51, *TAG, 52], 3),
    ],
)  # fmt: skip
def test_the_tag_is_found_as_a_sequence(text: list[int], acts_at: int | None) -> None:
    """Token by token, its last id alone is not enough, and only its first time counts."""
    controller = ThoughtAware().controller(model())
    assert controller is not None
    acted = [index for index, token in enumerate(text) if controller.on_token(token, 0.5).hold]

    assert acted == ([] if acts_at is None else [acts_at])


def test_a_matcher_knows_how_much_of_the_tag_stands_at_the_end() -> None:
    """Against comparing every suffix of a random text over three letters, for tags that overlap themselves."""
    for tag in ((1, 2, 3), (1, 1, 2), (1, 2, 1, 2), (1,)):
        rng, matcher, text = random.Random(0), TagMatcher(tag), []
        for _ in range(300):
            token = rng.choice((1, 2, 3))
            completes = [*text, token][-len(tag) :] == list(tag)
            assert matcher.completes(token) == completes == matcher.add(token)
            text.append(token)
            begun = [n for n in range(len(tag)) if n == 0 or text[-n:] == list(tag[:n])]
            assert matcher.n_begun() == max(begun)
            assert matcher.n_tokens == len(text)


@pytest.mark.parametrize("cadence", [EveryStep(), EveryK(k=4)], ids=lambda c: c.kind)
def test_nothing_is_cut_after_the_tag(cadence: object) -> None:
    """Sizes are the cadence's up to the step before the tag is complete, then grow by one."""
    script = [*THOUGHT, *TAG, 60, 61, *TAG, *range(62, 76)]
    base = compose(scripted({"p0": script}), cadence=cadence)
    (made,) = run(compose(ThoughtAware(decoding=scripted({"p0": script})), cadence=cadence), request())
    n_before = len(THOUGHT) + len(TAG) - 1  # decode steps whose outcome is the text up to the whole tag
    expected = base.bind(Budget(10)).simulate(12, made.n_steps)[:n_before]
    # The event after the last of these steps comes before the token is chosen, so it still happens.
    after = run(base, request())[0].cache_tokens_per_step[n_before]
    expected += [after + i for i in range(made.n_steps - n_before)]

    assert made.token_ids[: len(script)] == tuple(script)
    assert list(made.cache_tokens_per_step) == expected
    assert made.n_extra_tokens == 0


def test_room_for_the_answer() -> None:
    """The engine's own capacity is enough for a text that closes at once and grows to the end."""
    script = [*TAG, *range(50, 77)]
    (made,) = run(compose(ThoughtAware(decoding=scripted({"p0": script}))), request(length=30), capacity=None)

    assert made.n_new_tokens == 30
    assert made.peak_cache_tokens == 9 + 29 - 2  # the last cut comes after step 2, before the tag is complete
    assert ThoughtAware().grows
    assert not ThoughtAware(mode="drop-thought").grows


@pytest.mark.parametrize("last", [0, 3, 8, 100])
def test_the_thought_is_dropped(last: int) -> None:
    """In a full cache: the prompt, the newest `last` tokens of the thought, the tag and what follows stay."""
    script = [*THOUGHT, *TAG, 60, 61, 62]
    rule = ThoughtAware(mode="drop-thought", last=last, decoding=scripted({"p0": script}))
    running = engine(uncut(rule), None, rows=1, n_new=len(script) + 1)
    made, held = finished(running)
    n_dropped = max(len(THOUGHT) - last, 0)
    thought = range(12 + n_dropped, 12 + len(THOUGHT))
    n_tag_step = len(THOUGHT) + len(TAG) - 1

    assert held == [*range(12), *thought, *range(12 + len(THOUGHT), 12 + len(script))]
    assert list(made.cache_tokens_per_step) == [
        13 + i - (n_dropped if i >= n_tag_step else 0) for i in range(made.n_steps)
    ]
    assert made.n_evicted == n_dropped * model().geometry.n_heads_total


def test_a_thought_is_dropped_from_what_the_cadence_has_left() -> None:
    """Sinks in the prompt and the newest tokens stay, and the cadence fills the room again."""
    script = [*THOUGHT, *TAG, *range(60, 70)]
    rule = ThoughtAware(mode="drop-thought", last=2, decoding=scripted({"p0": script}))
    running = engine(compose(rule, scoring=StreamingLLM(sinks=2)), Budget(10), rows=1, n_new=len(script) + 1)
    made, held = finished(running)
    n_tag_step = len(THOUGHT) + len(TAG) - 1
    sizes = list(made.cache_tokens_per_step)

    # Before the tag's last token is fed the cache holds 2 sinks, 5 of the thought, 2 of the tag; 3 of the thought go.
    assert sizes[:n_tag_step] == [10] * n_tag_step
    assert sizes[n_tag_step:] == [7, 8, 9, *[10] * (made.n_steps - n_tag_step - 3)]
    assert held[:2] == [0, 1]


def finished(running: Engine) -> tuple[object, list[int]]:
    """Run p0 and return its generation and the positions held by every head at the end."""
    at_the_end: list[list[int]] = []
    retire = running.cache.retire

    def remembering_retire(row: int) -> None:
        heads = {tuple(p for p in head.tolist() if p >= 0) for head in running.cache.positions[:, 0].flatten(0, 1)}
        at_the_end.append(list(heads.pop()) if len(heads) == 1 else [])
        retire(row)

    running.cache.retire = remembering_retire  # type: ignore[method-assign]
    (made,) = running.generate([request()])
    return made, at_the_end[0]


def test_a_sampled_tag_counts_not_the_likeliest_token() -> None:
    """What was drawn decides: the same text acts whatever the model would have preferred."""
    sampled = Sampling(temperature=50.0, top_p=1.0)
    (base,) = run(compose(sampled), request())
    spelled = model().decode(base.token_ids[5:7])
    (made,) = run(compose(ThoughtAware(tag=spelled, decoding=sampled)), request())

    sizes = base.cache_tokens_per_step

    assert made.token_ids[:7] == base.token_ids[:7]
    assert made.cache_tokens_per_step == (*sizes[:6], *(sizes[6] + i for i in range(23)))


@pytest.mark.parametrize("bad", [{"last": -1}, {"tag": ""}])
def test_bad_parameters(bad: dict[str, object]) -> None:
    """Refused with the rule and what was got."""
    (name,) = bad
    with pytest.raises(DeclarationError, match=f"{name} must .*got {name}="):
        ThoughtAware(**bad)  # type: ignore[arg-type]


def test_drop_leaves_no_trace_in_free_slots() -> None:
    """After a drop the held slots come first, in order, in every head, and the free ones have no position."""
    rule = ThoughtAware(mode="drop-thought", last=1, decoding=scripted({"p0": [*THOUGHT, *TAG, 60]}))
    running = engine(uncut(rule), None, rows=1)
    with torch.inference_mode():
        start(running, 0, request())
        for _ in range(11):
            list(running.decode_burst())

    cache = running.cache
    assert torch.equal((cache.positions >= 0).sum(dim=-1).int(), cache.counts)
    assert cache.positions[0, 0, 0, :16].tolist() == [*range(12), 19, 20, 21, 22]
    assert (cache.positions[..., 16:] == -1).all()
