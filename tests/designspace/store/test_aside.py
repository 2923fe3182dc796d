"""Setting aside moves what was judged, and nothing else, whoever writes at the same moment."""

from __future__ import annotations

import pytest

from designspace.errors import StoreError
from designspace.store import ResultsStore
from designspace.store.aside import set_aside
from designspace.store.layout import Layout
from designspace.store.stored_file import Damaged


@pytest.fixture
def layout(tmp_path):
    """A folder with one file."""
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x.json").write_text("x")
    return Layout(tmp_path)


def refuse(_path):
    """Find every file damaged."""
    raise Damaged("bad")


def test_a_damaged_file_moves_under_the_path_it_had(layout):
    """And the line about it says all there is to know."""
    path = layout.cells / "x.json"
    moved = set_aside(layout, path, "bad", refuse)
    assert str(moved) == f"{path}: bad; moved to {layout.root / 'damaged' / 'cells' / 'x.json'}"
    assert (moved.moved_to.read_text(), path.exists()) == ("x", False)


def test_where_nothing_is_nothing_is_moved_or_made(layout):
    """A run asks for every shard that it is about to make."""
    assert set_aside(layout, layout.cells / "y.json", "bad", refuse) is None
    assert not layout.set_aside.exists()


def test_a_sound_file_that_came_meanwhile_goes_back(layout):
    """Another process made the file anew between the judgement and the move."""
    path = layout.cells / "x.json"
    assert set_aside(layout, path, "bad", lambda moved: moved.read_text()) is None
    assert path.read_text() == "x"


def test_a_shard_that_another_process_makes_anew_meanwhile_stays(filled, ids, monkeypatch):
    """Two runs of one sweep find the same damage: the slower one does not move what the faster one has made."""
    cell, _, shard = ids
    slow, files = ResultsStore.open(filled.root), sorted(filled.root.rglob("*.parquet"))
    before = {path: path.read_bytes() for path in files}
    real = slow._verified.facts
    judged = []

    def damaged_at_first_sight(path, contents):
        if path not in judged and "damaged" not in path.parts:
            judged.append(path)
            raise Damaged("bad a moment ago")
        return real(path, contents)

    monkeypatch.setattr(slow._verified, "facts", damaged_at_first_sight)
    assert slow.set_shard_aside(cell, shard) == []
    assert judged
    assert before == {path: path.read_bytes() for path in files}


def test_a_file_system_that_refuses_is_an_error_with_the_file_in_it(layout, monkeypatch):
    """Never a damaged file that counts as moved."""

    def fail(*_args):
        raise PermissionError("no")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(StoreError, match=r"cannot set .*x\.json aside: no"):
        set_aside(layout, layout.cells / "x.json", "bad", refuse)
