"""Every broken file is refused with exactly the problems that stand beside it, all at once, each with its position."""

from __future__ import annotations

from pathlib import Path

import pytest

from designspace.errors import DeclarationError
from designspace.registry import kinds
from designspace.tasks import lookup
from sweeps.spec import load_sweep

FOLDER = Path(__file__).parent / "broken"
FILES = sorted(file.name for file in FOLDER.glob("*.yaml"))


def test_there_are_enough_broken_files() -> None:
    """The folder was found."""
    assert len(FILES) >= 25


@pytest.mark.parametrize("name", FILES)
def test_problems_are_as_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the one in the .txt file of the same name."""
    monkeypatch.chdir(FOLDER)
    with pytest.raises(DeclarationError) as caught:
        load_sweep(name)
    # The lists grow with every scoring and task; what matters is that they are named.
    text = (FOLDER / name).with_suffix(".txt").read_text(encoding="utf-8")
    named = text.replace("<scoring kinds>", ", ".join(kinds("scoring")))
    expected = named.replace("<task names>", ", ".join(lookup.task_names())).splitlines()
    assert expected == list(caught.value.problems)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    """No traceback for a file that is not there or is a folder."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(DeclarationError, match=r"cannot be read: (No such file|Is a directory)"):
            load_sweep(path)


def test_a_representation_that_cannot_hold_a_models_heads_is_refused(tmp_path: Path) -> None:
    """The shape of a local model is read from its config.json, without loading it."""
    path = tmp_path / "sweep.yaml"
    path.write_text(
        """schema: 1
study: s
models: [pocket-llama]
tasks: [{name: chain-arithmetic, problems: 4}]
mechanisms:
  - {name: odd, base: full, representation: {kind: kivi, group: 64}}
generation: {temperature: 0.0, max_new_tokens: 16, rows: 4}
""",
        encoding="utf-8",
    )
    with pytest.raises(DeclarationError) as caught:
        load_sweep(path)
    (problem,) = caught.value.problems
    assert "sweep.yaml:6:5: mechanisms[0]: mechanism 'odd' on model 'pocket-llama'" in problem
    assert "head_dim=32" in problem


def test_deep_nesting_is_one_clear_error(tmp_path: Path) -> None:
    """The parser's recursion limit is not the user's traceback."""
    path = tmp_path / "deep.yaml"
    path.write_text("schema: " + "[" * 5000 + "]" * 5000, encoding="utf-8")
    with pytest.raises(DeclarationError, match="nested too deeply"):
        load_sweep(path)
