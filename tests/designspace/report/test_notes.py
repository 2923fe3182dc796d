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
    assert note == (
        "pocket, chain/dev, budget 48: Do not compare this arm with the others: greedy (60.0 tokens, +25.0 %). It is "
        "unmatched, which means that its mean cache is more than 2 % away from 48.0 tokens, the median of this budget."
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{}, {"mechanism": "r-kv"}], "All 2 arms have the same accuracy"),
        ([{"n_events": 0}], "The cache was never cut, because the texts are too short for this budget."),
        ([{"n_events": 0}, {"problem_id": "b", "n_events": 0}, {"problem_id": "c"}], "cut in only 33 % of the texts"),
        ([{"steady_mean_cache_tokens": 60.0}], "the mean cache is 60.0 tokens, but the budget asks for 48."),
        ([{}, {"problem_id": "b"} | OPEN], "1 of 2 texts are not graded"),
        ([OPEN], "No text is graded here."),
        ([{}, {"cell_id": "twin"}], "stands for 2 different configurations"),
        ([{}, {"problem_id": "b", "grader_id": "g2"}], "2 graders (g1, g2)"),
        (
            [{}, {"mechanism": "a", "mean_cache_tokens": 48.9}, {"mechanism": "b", "mean_cache_tokens": 47.1}],
            "are comparable, but the largest cache (a) is 3.8 % bigger than the smallest (b).",
        ),
    ],
)
def test_each_trap_has_its_note(make_table, rows, words):
    """One condition, one note of whole sentences."""
    found = notes(summarise(make_table(*rows)))

    assert any(words in note for note in found)
    assert all(note.endswith(".") for note in found)


def test_code_is_named_with_the_arms_that_it_made(with_texts):
    """One state of the code deserves no word; several do, and most of all within one arm."""
    one = with_texts({}, {"mechanism": "r-kv", "correct": False})
    between = with_texts({}, {"mechanism": "r-kv", "correct": False, "code_id": "0.1.0+b"})
    within = with_texts({}, {"problem_id": "b", "code_id": "0.1.0+b"}, {"mechanism": "r-kv", "correct": False})

    assert not any("code" in note for note in notes(summarise(one)))
    (note,) = [note for note in notes(summarise(between)) if "code" in note]
    assert note == (
        "The texts were made by 2 states of the code, so arms may differ by more than their mechanisms: 0.1.0+a (pocket, "
        "chain/dev, budget 48, h2o); 0.1.0+b (pocket, chain/dev, budget 48, r-kv). `designspace run --strict` refuses to go on "
        "under another state of the code."
    )
    (note,) = [note for note in notes(summarise(within)) if "code" in note]
    assert "Within one arm: pocket, chain/dev, budget 48, h2o." in note


def test_several_unmatched_arms_share_a_note(make_table):
    """They are named together, in the plural."""
    sizes = {"a": 48.0, "b": 48.0, "c": 48.0, "d": 60.0, "e": 40.0}
    rows = [{"mechanism": name, "mean_cache_tokens": size} for name, size in sizes.items()]
    (note,) = [note for note in notes(summarise(make_table(*rows))) if "unmatched" in note]

    assert "Do not compare these arms with the others: d (60.0 tokens, +25.0 %), e (40.0 tokens, -16.7 %). They" in note


def test_unmatched_bytes_are_named_as_bytes(make_table):
    """A budget in bytes is matched in bytes, and the note says so."""
    rows = [
        {"mechanism": name, "budget_of": "bytes", "mean_cache_bytes": size} for name, size in (("a", 1e3), ("b", 1e3))
    ]
    more = {"mechanism": "c", "budget_of": "bytes", "mean_cache_bytes": 42429.4}

    assert "c (42,429.4 bytes, +4142.9 %)" in " ".join(notes(summarise(make_table(*rows, more))))


def test_full_cache_gets_no_budget_notes(small):
    """An arm without a budget has no events by nature."""
    assert not any("full" in note for note in notes(summarise(small)))
