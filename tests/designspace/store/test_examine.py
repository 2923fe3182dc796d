"""The examination names everything that is not as it should be, with what it means, and changes nothing."""

from __future__ import annotations

import shutil

import pytest

from designspace.store import DamagedFilesWarning, ResultsStore
from designspace.store.commit import document_bytes
from designspace.store.documents import sealed_document, write_document
from designspace.store.examine import Kind
from tests.designspace.store.harm import GRADERS, KEYS, content, drop_checksums, full_store, stored_files


@pytest.fixture
def whole(tmp_path):
    """A store that holds every kind of file."""
    return full_store(tmp_path / "results")


def find(store):
    """Examine and return kind, kind of file, and name of each finding."""
    return [(str(f.kind), str(f.what), f.path.name) for f in store.examine()]


def samples_file(store, key=KEYS[0]):
    """Where a shard's samples lie."""
    return store.root / "samples" / key.cell_id[:2] / key.cell_id / f"{key.shard_id}.parquet"


def grades_file(store, key=KEYS[0], grader=GRADERS[0]):
    """Where a shard's grades lie."""
    return store.root / "grades" / grader / key.cell_id[:2] / key.cell_id / f"{key.shard_id}.parquet"


def test_a_sound_store_has_no_findings_and_is_not_changed(whole):
    """Neither dot files of desktops nor a file that is being written now are worth a word."""
    (whole.root / "samples" / ".DS_Store").write_text("x")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in stored_files(whole.root)}
    assert find(whole) == []
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in stored_files(whole.root)}


def test_every_damaged_file_is_found_at_once(whole):
    """Of every kind of file; each line says what is wrong, what it means and what to type."""
    files = stored_files(whole.root)
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    found = whole.examine()
    assert {finding.path for finding in found if finding.is_damage} == set(files)
    assert {"format", "samples", "grades", "cell", "study", "failure"} == {str(finding.what) for finding in found}
    lines = [str(finding) for finding in found if finding.what != "failure"]
    assert all(line.startswith("damaged: ") and "next `designspace run`" in line for line in lines)
    assert not any("\n" in line for line in lines)


def test_files_from_before_there_were_checksums_are_sound_and_named(whole):
    """Nothing is lost, and nothing is to be done; a declaration's name is its checksum already."""
    before = content(whole)
    drop_checksums(whole.root)
    again = ResultsStore.open(whole.root, create=False)
    assert content(again) == before
    found = again.examine()
    assert {finding.kind for finding in found} == {Kind.WITHOUT_CHECKSUM}
    assert all(finding.is_sound and not finding.is_damage for finding in found)
    # All but the declaration and the file that makes the folder a store.
    assert len(found) == len(stored_files(whole.root)) - 2


def test_grades_of_samples_that_were_made_anew_are_damaged(whole):
    """They name the samples file that they grade: another one is graded again, though its rows have the same names."""
    key, path = KEYS[0], samples_file(whole)
    path.rename(whole.root / "elsewhere")
    rows = [row | {"text": "other"} for row in _rows(whole.root / "elsewhere")]
    with pytest.warns(
        DamagedFilesWarning, match=r"the samples that it grades are not stored.*, and 1 of the same shard"
    ):
        whole.commit(key.cell_id, key.shard_id, {"mechanism": "h2o", "weight": 0.5}, rows)
    assert not grades_file(whole).exists()
    shutil.copy(whole.root / "damaged" / grades_file(whole).relative_to(whole.root), grades_file(whole))
    assert find(whole) == [("damaged", "grades", grades_file(whole).name)]
    assert not whole.grades_committed(GRADERS[0], key.cell_id, key.shard_id)


def _rows(path):
    from designspace.store.scan import samples_contents
    from designspace.store.schema import SAMPLES_SCHEMA
    from designspace.store.shard_file import read_shard

    names = ("cell_id", "shard_id")
    rows = read_shard(path, samples_contents(KEYS[0]), SAMPLES_SCHEMA).table.to_pylist()
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def test_names_are_compared_with_contents(whole):
    """A file that was copied or moved to another name is not what its name says."""
    shutil.copy(samples_file(whole, KEYS[2]), samples_file(whole, KEYS[0]))
    shutil.copy(grades_file(whole, KEYS[0], "grader-2"), grades_file(whole, KEYS[0], "grader-1"))
    assert [("damaged", "samples"), ("damaged", "grades")] == [found[:2] for found in find(whole)]


def test_the_document_of_a_cell_is_compared_with_its_samples(whole):
    """Each samples file carries the identity of its cell too."""
    (path,) = (whole.root / "cells" / "ab").iterdir()
    write_document(path, {"mechanism": "snapkv", "weight": 0.5}, whole.root / "tmp")
    assert find(whole) == [("damaged", "cell", path.name)]


def test_orphans_are_named_and_are_no_damage(whole):
    """Grades whose samples are gone; samples whose cell has no document."""
    samples_file(whole, KEYS[2]).unlink()
    (whole.root / "cells" / "ab" / f"{KEYS[0].cell_id}.json").unlink()
    found = whole.examine()
    assert [("orphan", "grades"), ("orphan", "cell")] == [(f.kind, f.what) for f in found]
    assert all(finding.is_sound for finding in found)


def test_foreign_and_scratch_files_are_named_and_left_alone(whole):
    """They are no part of a store, so that they are never damaged, moved or read."""
    strangers = [
        "samples/notes.txt", "samples/ab/cell/x.parquet", "grades/grader-1/x", "cells/a.json", "studies/quick/a/b.json",
        "failures/ab/x.json", "studies/quick/README",
    ]  # fmt: skip
    for name in strangers:
        (whole.root / name).parent.mkdir(parents=True, exist_ok=True)
        (whole.root / name).write_text("x")
    (whole.root / "tmp" / f"elsewhere~7-{'a' * 16}-x.parquet").write_text("x")
    found = whole.examine()
    assert sorted(str(f.path.relative_to(whole.root)) for f in found if f.kind == Kind.FOREIGN) == sorted(strangers)
    assert [f.kind for f in found if f.what == "scratch"] == [Kind.SCRATCH]
    assert all(finding.is_sound for finding in found)
    assert whole.set_damaged_aside(found) == []


def test_a_folder_of_grades_that_is_no_graders_is_passed_over(whole):
    """Its name cannot be an id, so nothing can look for grades there."""
    (whole.root / "grades" / "my notes").mkdir()
    assert content(whole)["shards"] == KEYS


def test_a_newer_file_is_told_from_a_damaged_one(whole, monkeypatch):
    """It is sound, and stays where it is; this version cannot read it."""
    monkeypatch.setattr("designspace.store.scan.SAMPLES_VERSION", 0)
    found = [finding for finding in whole.examine() if finding.what == "samples"]
    assert {finding.kind for finding in found} == {Kind.UNREADABLE}
    assert "newer than 0: upgrade designspace" in str(found[0])
    assert whole.set_damaged_aside() == []


def test_setting_aside_never_overwrites(whole):
    """Not even what was set aside before: nothing is ever deleted."""
    path = whole.root / "cells" / "ab" / f"{KEYS[0].cell_id}.json"
    intact = path.read_bytes()
    harmed = [intact[:-1], intact[:-2], intact[:-3]]
    for content_ in harmed:
        path.write_bytes(content_)
        assert [file.path for file in whole.set_damaged_aside()] == [path]
    kept = (whole.root / "damaged" / "cells" / "ab").iterdir()
    assert sorted(file.read_bytes() for file in kept) == sorted(harmed)


def test_a_damaged_format_file_does_not_hide_the_store(whole):
    """The other files tell that the folder is a store; a newer format is believed only from a file with a checksum."""
    path = whole.root / "designspace.json"
    for text in (b"", b'{"format":', document_bytes({"format": 99})):
        path.write_bytes(text)
        with pytest.warns(UserWarning, match=r"designspace\.json .*designspace doctor"):
            assert ResultsStore.open(whole.root, create=False).shards() == KEYS
        assert find(whole) == [("damaged", "format", "designspace.json")]
        assert len(whole.set_damaged_aside()) == 1
        assert find(whole) == []
    path.write_bytes(sealed_document({"format": 99}))
    with pytest.raises(Exception, match="store format 99, this version reads up to 1"):
        ResultsStore.open(whole.root)


def test_damaged_grades_let_no_other_grader_in(whole):
    """The shard is ungraded until its grades are made anew, whether they lie in their place or aside: no silent change."""
    before = content(whole)["rows"]
    path = grades_file(whole, KEYS[0], GRADERS[0])
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        now = content(whole)["rows"]
        assert {row["grader_id"] for row in now.values() if row["shard_id"] != KEYS[0].shard_id} == {GRADERS[0]}
        assert [
            now[name]["correct"] for name in before if before[name]["text"] in ("so \\boxed{0}", "so \\boxed{1}")
        ] == [
            None,
            None,
        ]
        whole.set_damaged_aside()
    assert not path.exists()
