"""A results folder to question."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.designspace.query.stored_study import write_study


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study; nothing may write to it."""
    root = tmp_path_factory.mktemp("query") / "results/quickstart"
    write_study(root)
    return root
