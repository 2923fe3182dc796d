"""One grader for the whole folder: starting its child costs more than most tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from designspace.tasks.grading import MathGrader

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def grader() -> Iterator[MathGrader]:
    """A grader that all tests of the session share."""
    with MathGrader() as shared_grader:
        yield shared_grader


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared test data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DESIGNSPACE_SHARED", REPOSITORY / ".." / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set DESIGNSPACE_SHARED")
    return folder
