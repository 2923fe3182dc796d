"""The comparison with kvpress counts what it should, without kvpress."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

from benchmarks.press_parity import (
    PAIRS,
    Cut,
    GivenSets,
    agreement,
    differences,
    first_difference,
    lost_to_rounding,
    ours,
    ours_all,
    ratio_for,
    texts,
)
from designspace.models.loading import LoadedModel

PROMPTS = [tuple(range(10, 10 + n)) for n in (24, 31, 24)]


def test_what_stands_in_the_slots_is_what_is_kept(toy_llama: LoadedModel) -> None:
    """Of each prompt by itself: the sinks and the newest, in every layer and head."""
    for prompt, cut in zip(PROMPTS, ours_all(toy_llama, PAIRS["streaming-llm"].scoring, PROMPTS, 12, 4), strict=True):
        expected = [*range(4), *range(len(prompt) - 8, len(prompt))]

        assert cut.kept == [[expected] * 2] * 2
        assert len(cut.tokens) == 4


def test_a_scoring_that_depends_on_the_length_gets_its_own(toy_llama: LoadedModel) -> None:
    """A batch of several lengths is cut as each prompt by itself."""
    scoring = PAIRS["expected-attention"].scoring
    together = ours_all(toy_llama, scoring, PROMPTS, 12, 4)

    assert scoring(24) != scoring(31)
    assert together == [ours(toy_llama, scoring(len(p)), {"p": p}, 12, 4)["p"] for p in PROMPTS]


def test_sets_that_are_given_are_kept(toy_llama: LoadedModel) -> None:
    """Any positions, other ones in every head; and the text that follows is that of whoever chose them."""
    kept = [[[0, 3, 5], [1, 2, 23]], [[4, 5, 6], [0, 9, 22]]]
    given = GivenSets(kept=tuple(tuple(map(tuple, layer)) for layer in kept))
    assert ours(toy_llama, given, {"p": PROMPTS[0]}, 3, 4)["p"].kept == kept

    chosen = ours(toy_llama, PAIRS["keydiff"].scoring(24), {"p": PROMPTS[0]}, 12, 4)["p"]
    again = GivenSets(kept=tuple(tuple(map(tuple, layer)) for layer in chosen.kept))
    assert ours(toy_llama, again, {"p": PROMPTS[0]}, 12, 4)["p"] == chosen


def test_other_sets_are_counted_with_how_near_their_scores_are() -> None:
    """Per head; the gap is a share of the span of the head's scores, and a token too few is no tie."""
    scores = [[[0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 1.0, 4.0], [0.0, 1.0, 2.0, 4.0]]]
    theirs = Cut([[[2, 3], [1, 3], [2, 3]]], [7, 8, 9], scores, [1.0, 0.5, 0.25])
    same, tie, swapped = [2, 3], [2, 3], [1, 3]

    found = differences(Cut([[same, tie, swapped]], []), theirs)
    assert [(one.head, one.n_swapped, one.gap) for one in found] == [(1, 1, 0.0), (2, 1, 0.25)]
    assert differences(Cut([[same, [1, 3], [3]]], []), theirs)[0].gap == math.inf


def test_texts_are_counted_up_to_where_they_part() -> None:
    """A text that parts counts with its beginning; where its sets are the same that is said."""
    theirs = [Cut([[[1]]], [7, 8, 9], [[[0.0, 1.0]]], [1.0, 0.5, 0.25]) for _ in range(3)]
    found = agreement("p", 1, [Cut([[[1]]], [7, 8, 9]), Cut([[[1]]], [7, 0, 9]), Cut([[[0]]], [0, 8, 9])], theirs)

    assert [(one.prompt, one.place, one.lead, one.sets_differ) for one in found.parted] == [
        (1, 1, 0.5, False),
        (2, 0, 1.0, True),
    ]
    assert [one.explained(1e-3) for one in found.parted] == [False, True]
    assert found.parted[0].explained(0.5)
    assert found.n_tokens_agreed == 3 + 1 + 0
    assert found.cells() == ["p", "1", "2 of 3", "1", "0", "1.0e+00", "1 of 3", "4 of 9"]
    assert first_difference([1, 2], [1, 2, 3]) == 2


def test_the_ratio_keeps_as_many_as_asked_for() -> None:
    """By kvpress' rule, which rounds down; the plain ratio loses a token where floats fall just short."""
    for n in range(2, 200):
        assert all(int(n * (1 - ratio_for(size, n))) == size for size in range(1, n))
    losing = [n for n in range(49, 400) if lost_to_rounding([[0] * n], 48)]

    assert losing
    assert all(Fraction(1 - (1 - 48 / n)) * n < 48 for n in losing)


def test_texts_come_from_here_or_from_a_file(tmp_path: Path) -> None:
    """As many as asked for."""
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"problem": f"p{i}"}) + "\n" for i in range(4)))

    assert texts(file, 2) == ["p0", "p1"]
    assert len({*texts(None, 5)}) == 5
