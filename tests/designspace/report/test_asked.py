"""The head of the page: what was asked, with what, and where it lies."""

from __future__ import annotations

import pytest

from designspace.report import declared_study
from designspace.report.asked import Asked, asked
from designspace.report.levels import axis_levels
from designspace.store import ResultsStore


def composed(scoring="h2o", selector=None, protect=None, **axes):
    """What an arm is composed of, as a study's document has it."""
    scored = {"kind": scoring, "version": 1, "selector": selector or {"kind": "top-k", "version": 1}}
    scored |= {} if protect is None else {"protect": protect}
    return {"scoring": scored, "cadence": {"kind": "every-k", "version": 1, "k": 16}, **axes}


def test_levels_name_what_arms_differ_in():
    """A kind; with the parameters that tell arms of one kind apart; axes on which all agree are left out."""
    arms = {
        "a": composed(),
        "b": composed(selector={"kind": "mmr", "version": 1, "weight": 0.5}),
        "c": composed(selector={"kind": "mmr", "version": 1, "weight": 1.0}, protect="prompt"),
    }
    assert axis_levels(arms) == {
        "protect": {"a": "none", "b": "none", "c": "prompt"},
        "selector": {"a": "top-k", "b": "mmr(weight=0.5)", "c": "mmr(weight=1.0)"},
    }


DOCUMENT = {
    "study": "small",
    "models": ["pocket"],
    "budgets": ["48"],
    "mechanisms": [
        {"name": "h2o", "budget_applies": True, "axes": composed()},
        {"name": "r-kv", "budget_applies": True, "axes": composed("r-kv")},
        {"name": "full", "budget_applies": False, "axes": composed("full")},
    ],
    "seeds": {"count": 1, "root": 7},
    "generation": {"temperature": 0, "block": None},
    "cells": [
        {
            "cell_id": "ab12",
            "model": "pocket",
            "task": "chain",
            "split": "dev",
            "mechanism": "h2o",
            "budget": "48",
            "n_problems": 4,
        }
    ],
    "source": "study: small\n",
    "revision": 1,
}


@pytest.fixture
def store(tmp_path):
    """A folder that holds a declaration and one cell's identity."""
    made = ResultsStore.open(tmp_path / "mine")
    made.write_study("small", DOCUMENT)
    made.write_cell(
        "ab12", {"model": {"content": "f" * 64, "dtype": "float32"}, "task": {"content": "0" * 64, "name": "chain"}}
    )
    return made


def test_a_study_is_told_from_its_declaration(store, small):
    """Settings without those that are not set, hashes, when its texts were begun, and the arms with a budget by axis."""
    found = asked(store, declared_study(store), small)

    assert found.facts == {
        "models": "pocket", "tasks": "chain/dev (4 problems)", "budgets": "48", "mechanisms": "3, in 1 cell",
        "seeds": "count 1, root 7", "generation": "temperature 0", "hashes of the models": f"{'f' * 16} (float32)",
        "hashes of the problems": f"{'0' * 16} (chain)", "texts begun": "2026-01-01 00:00 UTC", "graders": "g1",
    }  # fmt: skip
    assert found.source == "study: small\n"
    assert found.levels == {"scoring": {"h2o": "h2o", "r-kv": "r-kv"}}


def test_the_places_are_files_of_the_folder(store, small):
    """Paths start at the results folder, so that they are right wherever it is moved; none says where it is."""
    found = asked(store, declared_study(store), small)

    path, revision = found.places["declaration"].split(" ", 1)
    assert (store.root / path).is_file()
    assert revision == "(revision 1)"
    assert (store.root / found.places["a cell's identity"]).is_file()
    assert found.places["to make this page again"] == "designspace report mine --study small --html FILE"
    assert str(store.root.parent) not in str(found.places)


def test_a_folder_without_a_declaration_says_what_its_rows_say(tmp_path, small):
    """Nothing is made up."""
    found = asked(ResultsStore.open(tmp_path), None, small)
    assert set(found.facts) == {"texts begun", "graders"}
    assert (found.source, found.levels) == (None, {})


def test_nothing_is_known_of_nothing(tmp_path, make_table):
    """An empty folder has its name, and how to ask again."""
    found = asked(ResultsStore.open(tmp_path), None, make_table())
    assert found == Asked(places=found.places)


def test_what_failed_is_said_until_it_is_there(store, small):
    """The last attempt of a shard that is missing; a cell of another study is not this one's business."""
    for attempt in (1, 2):
        reason = {"cell": "h2o at 48", "error": "OutOfMemory", "message": f"no {attempt}", "quarantined": attempt == 2}
        store.record_failure("ab12", "s0", attempt, reason)
    store.record_failure("cd34", "s0", 1, {"error": "Other", "message": "of another study"})

    found = asked(store, declared_study(store), small)
    assert found.failed == ("h2o at 48, shard s0, attempt 2: given up: OutOfMemory: no 2",)
