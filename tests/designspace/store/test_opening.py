"""A folder is a results store, becomes one, or is refused."""

from __future__ import annotations

import os
import time

import pytest

from designspace.errors import StoreError
from designspace.query import open_results
from designspace.store import ResultsStore


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no results store at"),
        (lambda root: root.mkdir(), "no results store at"),
        (lambda root: root.write_text(""), "is a file, not a results store"),
        (
            lambda root: (root.mkdir(), (root / "thesis.tex").write_text("")),
            "not a results store: it holds 'thesis.tex'",
        ),
        (lambda root: _format(root, '{"format":99}'), "store format 99, this version reads up to 1"),
        (lambda root: _format(root, '{"form'), "damaged"),
        (lambda root: _format(root, '{"format":"new"}'), "does not name a store format"),
    ],
    ids=["absent", "empty", "file", "other-folder", "newer", "torn", "nonsense"],
)
def test_what_is_no_store_is_refused_clearly(tmp_path, prepare, message):
    """Opening a wrong folder is one clear error, and never writes into it."""
    root = tmp_path / "place"
    prepare(root)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=message):
        open_results(root)
    assert sorted(tmp_path.rglob("*")) == before
    if "no results" not in message:
        with pytest.raises(StoreError, match=message):
            ResultsStore.open(root)


def _format(root, text):
    root.mkdir()
    (root / "designspace.json").write_text(text)


def test_opening_for_writing_sweeps_stale_scratch_files_only(filled):
    """Leftovers of killed processes go after a day; reading changes nothing."""
    for name, age_s in (("new", 60), ("old", 25 * 3600)):
        (filled.root / "tmp" / name).write_bytes(b"")
        os.utime(filled.root / "tmp" / name, (time.time() - age_s,) * 2)
    ResultsStore.open(filled.root, create=False)
    assert len(list((filled.root / "tmp").iterdir())) == 2
    ResultsStore.open(filled.root)
    assert [path.name for path in (filled.root / "tmp").iterdir()] == ["new"]
