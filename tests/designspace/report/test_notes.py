"""The notes name what makes numbers misleading, and are silent otherwise."""

from __future__ import annotations

import pytest

from designspace.report import notes, summarise

OPEN = {"correct": None, "lenient_correct": None, "extracted": None, "grader_id": None}


def test_nothing_to_say(make_table):
    """Two sound arms that differ give no note."""
    assert notes(summarise(make_table({}, {"mechanism": "r-kv", "correct": False}))) == []


def test_unmatched_arms_are_named_with_their_numbers(small):
    """The note says how far off the arm is, and from what."""
    (note,) = notes(summarise(small))
    assert note.startswith("pocket, chain/dev, budget 48: unmatched, so not to be compared with the others: greedy (")
    assert "(60.0, +25.0%)" in note


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{}, {"mechanism": "r-kv"}], "all 2 arms have the same accuracy"),
        ([{"n_events": 0}], "the budget does not bite"),
        ([{"n_events": 0}, {"problem_id": "b", "n_events": 0}, {"problem_id": "c"}], "only 33% of the generations"),
        ([{"steady_mean_cache_tokens": 60.0}], "steady mean is 60.0 tokens, the budget asks for 48"),
        ([{}, {"problem_id": "b"} | OPEN], "1 of 2 generations are not graded"),
        ([{}, {"cell_id": "twin"}], "stands for 2 different configurations"),
        ([{}, {"problem_id": "b", "grader_id": "g2"}], "2 graders (g1, g2)"),
        (
            [{}, {"mechanism": "a", "mean_cache_tokens": 48.9}, {"mechanism": "b", "mean_cache_tokens": 47.1}],
            "lie up to",
        ),
    ],
)
def test_each_trap_has_its_note(make_table, rows, words):
    """One condition, one sentence."""
    assert any(words in note for note in notes(summarise(make_table(*rows))))


def test_full_cache_gets_no_budget_notes(small):
    """An arm without a budget has no events by nature."""
    assert not any("full" in note for note in notes(summarise(small)))
