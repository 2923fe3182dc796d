"""Budget forcing: withheld and forced tags, and that what is forced is fed and charged."""

from __future__ import annotations

import random
from typing import Any

import pytest

from designspace.axes import Budget, Generation
from designspace.errors import DeclarationError
from families.decoding.budget_forcing import BudgetForcing
from tests.families.decoding.toy import CUE, END, TAG, WAIT, compose, engine, model, request, run, scripted, uncut

FORCED = {"answer_cue": "FinalAnswer", "wait": "Wait"}


def written(script: list[int], n_new: int, **parameters: Any) -> Generation:
    """Return what a full cache writes when these tokens are chosen one after the other."""
    rule = BudgetForcing(**(FORCED | {"tag": "<end>"} | parameters), decoding=scripted({"p0": script}))
    return run(uncut(rule), request(), budget=None, n_new=n_new)[0]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"waits": 0}, [50, 51, *END, 52, *END, 53]),
        ({"waits": 1}, [50, 51, *WAIT, 52, *END, 53]),
        ({"waits": 2}, [50, 51, *WAIT, 52, *WAIT, 53]),
        ({"waits": 2, "min_thinking": 2}, [50, 51, *END, 52, *END, 53]),
        ({"waits": 2, "min_thinking": 3}, [50, 51, *WAIT, 52, *END, 53]),
        ({"waits": 2, "min_thinking": 5}, [50, 51, *WAIT, 52, *WAIT, 53]),
        ({"waits": 9, "wait": "WaitAnswer"}, [50, 51, *WAIT, 32, 52, *WAIT, 32, 53]),
    ],
)
def test_the_tag_is_withheld(parameters: dict[str, Any], expected: list[int]) -> None:
    """Up to `waits` times, below the minimum, the text goes on with "Wait" in the place of the tag."""
    made = written([50, 51, *END, 52, *END, 53], len(expected), max_thinking=None, **parameters)

    assert list(made.token_ids) == expected


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (0, [*END, *CUE, 51, 52, *END]),
        (2, [50, 51, *END, *CUE, *END]),
        (3, [50, 51, 52, *END, 54]),  # closed by itself, at the maximum: no cue
        (None, [50, 51, 52, *END, 54]),
    ],
)
def test_the_tag_is_forced_at_the_maximum(longest: int | None, expected: list[int]) -> None:
    """In the place of the token chosen there come tag and answer cue, then the model's own again."""
    made = written([50, 51, 52, *END, 54, 55], len(expected), waits=0, max_thinking=longest)

    assert list(made.token_ids) == expected


def test_a_wait_must_fit_under_the_maximum() -> None:
    """Where it does not, the tag stands; where it does, the maximum still holds."""
    script = [50, 51, *END, 52, 53, 54, 55, 56]

    assert list(written(script, 4, max_thinking=2).token_ids) == [50, 51, *END, 52]
    assert list(written(script, 8, max_thinking=4).token_ids) == [50, 51, *WAIT, 52, *END, *CUE, 54]


def test_without_a_cue_the_tag_alone_is_forced() -> None:
    """An empty cue is no token."""
    assert list(written([50, 51, 52], 4, waits=0, max_thinking=1, answer_cue="").token_ids) == [50, *END, 52, 1]


def test_the_cue_is_the_released_one() -> None:
    """One line break, not two: another cue is other tokens."""
    assert BudgetForcing().answer_cue == "\nFinal Answer:"


def test_a_tag_of_several_tokens() -> None:
    """Its last token is withheld, the ones before it lose their slots; one that has begun at the maximum is completed."""
    script = [50, *TAG, 51, *TAG, 52]
    withheld = written(script, 9, tag="</think>", max_thinking=None)

    assert list(withheld.token_ids) == [50, *TAG[:2], *WAIT, 51, *TAG, 52]
    assert withheld.n_evicted == 2 * model().geometry.n_heads_total
    assert list(withheld.cache_tokens_per_step) == [13, 14, 15, 14, 15, 16, 17, 18]
    for longest, expected in (
        (1, [50, *TAG, *CUE]),
        (2, [50, TAG[0], *TAG[1:], *CUE]),
        (3, [50, TAG[0], 21, 22, *CUE]),
    ):
        made = written([50, 20, 21, 60, 61, 62], len(expected), tag="</think>", waits=0, max_thinking=longest)
        assert list(made.token_ids) == expected


def test_forced_tokens_are_fed_and_counted() -> None:
    """They stand in the text and in the cache like chosen ones, draw no random number, and cost nothing extra."""
    script = [50, *END, 51, 52, 53, 54]
    made = written(script, 8, max_thinking=4)

    assert list(made.token_ids) == [50, *WAIT, 51, 52, *END, *CUE, 54]
    assert (made.n_steps, made.n_extra_tokens) == (7, 0)
    assert list(made.cache_tokens_per_step) == [13, 14, 15, 16, 17, 18, 19]
    rule = BudgetForcing(**FORCED, tag="<end>", max_thinking=4, decoding=scripted({"p0": script}))
    (cut,) = run(compose(rule), request(), n_new=8)
    assert cut.token_ids == made.token_ids
    assert list(cut.cache_tokens_per_step) == compose(rule).bind(Budget(10)).simulate(12, 7)


def test_a_text_may_end_while_tokens_are_forced() -> None:
    """The cap on new tokens holds for forced ones too."""
    assert list(written([50, 51], 3, waits=0, max_thinking=1).token_ids) == [50, *END, CUE[0]]


@pytest.mark.parametrize("tag", ["<end>", "</think>"])
def test_the_maximum_holds_for_any_text(tag: str) -> None:
    """Over random texts: at most `max_thinking` tokens before the tag, at most `waits` waits, the rest as chosen."""
    ids = model().token_ids(tag)
    for seed in range(200):
        rng = random.Random(seed)
        longest, waits = rng.randrange(8), rng.randrange(4)
        rule = BudgetForcing(**FORCED, tag=tag, waits=waits, max_thinking=longest)
        controller = rule.controller(model())
        assert controller is not None
        text: list[int] = []
        for _ in range(30):
            text += controller.on_token(rng.choice((50, *ids)), 0.5).tokens
        before = next(i for i in range(len(text)) if tuple(text[i : i + len(ids)]) == ids)
        assert before <= longest
        assert text[:before].count(WAIT[0]) <= waits


def test_every_sample_has_its_waits() -> None:
    """The count belongs to the text, not to the row."""
    scripts = {name: [50, *END, 51, *END, 52] for name in ("p0", "p1")}
    running = engine(uncut(BudgetForcing(**FORCED, tag="<end>", decoding=scripted(scripts))), None, rows=1, n_new=5)

    assert [g.token_ids for g in running.generate([request("p0"), request("p1")])] == [(50, *WAIT, 51, *END, 52)] * 2


@pytest.mark.parametrize(
    "bad", [{"waits": -1}, {"min_thinking": -1}, {"max_thinking": -1}, {"tag": ""}, {"wait": ""},
            {"min_thinking": 9, "max_thinking": 8}],
)  # fmt: skip
def test_bad_parameters(bad: dict[str, Any]) -> None:
    """Refused with the rule and what was got."""
    with pytest.raises(DeclarationError, match=f"{next(iter(bad))} must .*got {next(iter(bad))}="):
        BudgetForcing(**bad)
