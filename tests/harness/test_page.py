"""The page on harnesses runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.run_page import run
from tests.docs.test_tutorial import RUN_ELSEWHERE

pytestmark = pytest.mark.harness


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, and prints what it shows."""
    monkeypatch.chdir(tmp_path)
    run((REPOSITORY / "docs" / RUN_ELSEWHERE).read_text(encoding="utf-8"))
