"""What a study lacks is said in whole sentences: shards, arms without texts, problems per arm."""

from __future__ import annotations

import pytest

from designspace.report.declared import Declared
from designspace.report.missing import missing_sentences, progress_of

ARMS = {"full": "none", "h2o": "48", "r-kv": "48"}


def declared(n_problems=16, replicates=1, models=("pocket",)):
    """A study of three arms in shards of eight problems."""
    cells = [
        {
            "cell_id": f"{model}-{arm}-{replicate}", "model": model, "task": "chain", "split": "dev", "mechanism": arm,
            "budget": budget, "replicate": replicate, "n_problems": n_problems,
            "n_shards": None if n_problems is None else -(-n_problems // 8),
        }
        for model in models for arm, budget in ARMS.items() for replicate in range(replicates)
    ]  # fmt: skip
    return Declared("small", tuple(cells))


def progress(study, make_table, **n_done):
    """What is said when each cell has its first so many shards; a cell is named `arm` or `arm_replicate`."""
    shards, rows = {}, []
    for name, n in n_done.items():
        arm, _, replicate = name.replace("rkv", "r-kv").partition("_")
        cell_id = f"pocket-{arm}-{replicate or 0}"
        shards[cell_id] = n
        rows += [{"cell_id": cell_id, "problem_id": f"p{i}"} for i in range(8 * n)]
    return progress_of(study, shards, make_table(*rows))


def test_a_finished_study_lacks_nothing(make_table):
    """No sentence."""
    found = progress(declared(), make_table, full=2, h2o=2, rkv=2)

    assert found.complete
    assert missing_sentences(found) == []


def test_shards_arms_and_problems_are_counted(make_table):
    """Ten of 21 shards is not a result; which arms have how many problems is."""
    found = progress(declared(), make_table, full=2, h2o=1)

    assert missing_sentences(found) == [
        "This study is not finished: 3 of 6 shards are done, and 2 of 3 arms have texts. What is shown may still change.",
        "No text yet: r-kv at budget 48.",
        "Only 8 of 16 problems: h2o at budget 48.",
    ]
    assert found.document()["n_texts"] == 48


def test_texts_are_counted_where_problems_have_several(make_table):
    """All problems are there, but not all of their generations."""
    done = {"full": 2, "full_1": 2, "h2o": 2, "h2o_1": 1, "rkv": 2, "rkv_1": 2}
    assert missing_sentences(progress(declared(replicates=2), make_table, **done))[1:] == [
        "Only 16 of 16 problems (24 of 32 texts): h2o at budget 48."
    ]


def test_places_are_named_where_there_are_several(make_table):
    """The same arm on another model."""
    sentences = missing_sentences(progress(declared(models=("pocket", "big")), make_table, full=2, h2o=2, rkv=2))

    assert (
        sentences[1]
        == "No text yet: full on big, chain/dev; h2o at budget 48 on big, chain/dev; r-kv at budget 48 on big, chain/dev."
    )


def test_of_many_arms_some_are_named(make_table):
    """And how many more there are."""
    study = Declared("s", tuple({**declared().cells[1], "cell_id": f"c{i}", "mechanism": f"m{i}"} for i in range(40)))

    assert "m5 at budget 48 and 34 more arms." in missing_sentences(progress(study, make_table))[1]


@pytest.mark.parametrize("n_done", [{}, {"full": 1}])
def test_what_is_not_known_here_is_said_not_to_be(make_table, n_done):
    """A sweep whose task's data is elsewhere."""
    text = " ".join(missing_sentences(progress(declared(None), make_table, **n_done)))

    assert "of an unknown number of shards" in text


def test_nothing_at_all(make_table):
    """A study that was declared and never run."""
    assert (
        "0 of 6 shards are done, and 0 of 3 arms have texts" in missing_sentences(progress(declared(), make_table))[0]
    )
