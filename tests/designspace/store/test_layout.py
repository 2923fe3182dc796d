"""Paths inside a store, and names that must not become paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from designspace.errors import StoreError
from designspace.store.layout import Layout, ShardKey, is_document, shard_of

KEY = ShardKey("abcd", "0123")


def test_paths_fan_out_by_two_digits():
    """Every kind of file has its documented place."""
    layout = Layout(Path("/r"))
    assert layout.samples(KEY) == Path("/r/samples/ab/abcd/0123.parquet")
    assert layout.grades("g1", KEY) == Path("/r/grades/g1/ab/abcd/0123.parquet")
    assert layout.cell("abcd") == Path("/r/cells/ab/abcd.json")
    assert layout.failure(KEY, 2) == Path("/r/failures/ab/abcd/0123.2.json")
    assert layout.study("my study", "ff") == Path("/r/studies/my study/ff.json")


@pytest.mark.parametrize("name", ["", "a", "../../etc", "a/b", ".hidden", "_skipped", "a\0b", "x" * 200, "é1"])
def test_names_that_could_leave_the_store_are_refused(name):
    """Ids and studies are file names and nothing else."""
    layout = Layout(Path("/r"))
    for make in (layout.cell, layout.graded_by, lambda n: ShardKey(n, "ok"), lambda n: ShardKey("ok", n)):
        with pytest.raises(StoreError):
            make(name)
    if name != "a":
        with pytest.raises(StoreError):
            layout.study(name, "ff")


def test_a_path_tells_its_shard():
    """The inverse of `samples`; anything else is foreign."""
    top = Path("/r/samples")
    assert shard_of(top / "ab/abcd/0123.parquet", top) == KEY
    for foreign in (
        "ab/abcd/0123.txt",
        "zz/abcd/0123.parquet",
        "0123.parquet",
        "ab/abcd/x/0123.parquet",
        "ab/abcd/0.1.parquet",
    ):
        assert shard_of(top / foreign, top) is None


def test_a_path_tells_whether_it_is_a_document():
    """By its name alone; anything else is foreign."""
    names = {
        "studies": (["my study/ff00.json"], ["ff00.json", "my study/x/ff00.json", "_x/ff00.json", "my study/ff00.txt"]),
        "cells": (["ab/abcd.json"], ["abcd.json", "zz/abcd.json", "ab/x/abcd.json", "ab/ab cd.json"]),
        "failures": (
            ["ab/abcd/0123.2.json"],
            ["ab/abcd/0123.json", "ab/abcd/0123.x.json", "zz/abcd/0123.2.json", "x.json"],
        ),
    }
    for folder, (documents, foreign) in names.items():
        top = Path("/r") / folder
        assert [is_document(top / name, top) for name in documents] == [True]
        assert not any(is_document(top / name, top) for name in foreign)


def test_what_is_set_aside_keeps_its_path():
    """Below one folder, so that a person finds it."""
    layout = Layout(Path("/r"))
    assert layout.aside(layout.samples(KEY)) == Path("/r/damaged/samples/ab/abcd/0123.parquet")
