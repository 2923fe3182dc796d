"""The identity of the code: every source file that can change a result changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import code_id


@pytest.mark.parametrize(
    ("edited", "changes"), [("axis.py", True), ("kernel.c", True), ("lanes.h", True), ("notes.md", False)]
)
def test_sources_and_nothing_else(edited: str, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on the path whose files are edited one at a time."""
    package = tmp_path / "edited_package"
    package.mkdir()
    for name in ("__init__.py", "axis.py", "kernel.c", "lanes.h", "notes.md"):
        (package / name).write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_id, "_PACKAGES", ("edited_package",))
    before = code_id.code_id.__wrapped__()

    (package / edited).write_text("# edited\n", encoding="utf-8")

    assert (code_id.code_id.__wrapped__() != before) == changes
