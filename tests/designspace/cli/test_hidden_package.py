"""A file of the user's that has the name of one of our packages is named, where Python finds it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from designspace.cli.hidden_package import hidden_package


@pytest.mark.parametrize("name", ["cluster.py", "sweeps/__init__.py"])
def test_the_file_that_hides_a_package_is_named(tmp_path: Path, name: str) -> None:
    """No traceback, and what to do."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    command = [sys.executable, "-m", "designspace", "plan", "quickstart" if "cluster" in name else "x.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"{file} has the name of designspace's own package {file.parts[-1 - ('/' in name)].split('.')[0]!r}"
        in done.stderr
    )


def test_another_module_that_is_missing_is_no_hidden_package() -> None:
    """Nor one of ours that is not imported at all."""
    assert hidden_package(ModuleNotFoundError("no", name="nowhere.at_all")) is None
    assert hidden_package(ModuleNotFoundError("no", name="sys.path")) is None
