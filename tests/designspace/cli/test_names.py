"""Names where paths are asked for; groups and examples in the help."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cluster.evidence.folder import EvidenceFolder
from designspace.cli import app as cli
from designspace.cli.app import _GROUPS
from designspace.cli.examples import EXAMPLES
from designspace.cli.names import (
    registration_file,
    report_file,
    results_folder,
    shipped_sweeps,
    sweep_file,
    sweep_or_results,
)
from designspace.errors import DeclarationError


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a name would mean something else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/quickstart").mkdir(parents=True)
    assert results_folder(Path("quickstart")) == Path("results/quickstart")
    assert sweep_file(Path("quickstart")) == shipped_sweeps()["quickstart"]
    assert sweep_or_results(Path("quickstart")) == Path("results/quickstart")
    assert sweep_or_results(Path("factorial")) == shipped_sweeps()["factorial"]
    (tmp_path / "quickstart").mkdir()
    for find in (results_folder, sweep_file, sweep_or_results):
        assert find(Path("quickstart")) == Path("quickstart")


@pytest.mark.parametrize("given", ["nowhere", "some/quickstart", "quickstart.yaml"])
def test_what_is_no_name_is_left_to_the_command(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what is wrong with it."""
    monkeypatch.chdir(tmp_path)
    for find in (results_folder, sweep_file, sweep_or_results, registration_file, report_file):
        assert find(Path(given)) == Path(given)


def test_a_study_is_named_instead_of_its_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest one; a folder without any says so."""
    from cluster.evidence import confirm, register, tune
    from tests.cluster.test_evidence import INLINE, write_study

    monkeypatch.chdir(tmp_path)
    first = register(write_study(tmp_path / "a"), tmp_path / "results/tiny", underpowered="a test")[1]
    assert registration_file(Path("tiny")) == Path("results/tiny/protocol") / first.name
    second = register(write_study(tmp_path / "a", tokens=25), tmp_path / "results/tiny", underpowered="a test")[1]
    assert registration_file(Path("results/tiny")).name == second.name != first.name
    assert registration_file(first) == first
    with pytest.raises(DeclarationError, match="has no report of its newest registration"):
        report_file(Path("tiny"))
    tune(second, INLINE)
    done = confirm(second, INLINE)
    assert report_file(Path("tiny")).resolve() == done.path.resolve()
    assert CliRunner().invoke(cli.app, ["verify", "tiny"]).exit_code == 0
    (tmp_path / "results/empty").mkdir()
    assert not EvidenceFolder(Path("results/empty")).ledger.entries()
    with pytest.raises(DeclarationError, match="empty has no registration: designspace register STUDY makes one"):
        registration_file(Path("empty"))


def test_every_command_is_in_one_group_and_has_an_example() -> None:
    """That the command itself would read."""
    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    grouped = [name for names in _GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(commands) == sorted(EXAMPLES)
    for name, example in EXAMPLES.items():
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("designspace", name)
        commands[name].make_context(name, arguments)
        shown = CliRunner().invoke(cli.app, [name, "--help"]).output
        assert "Example: designspace" in shown


def test_the_help_lists_the_groups() -> None:
    """With whole sentences."""
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert all(f"{title}:" in shown for title in _GROUPS)
    assert "..." not in shown.replace("[ARGS]...", "")


@pytest.mark.parametrize(("name", "what"), [("pocket-llama", "models"), ("chain-arithmetic", "tasks")])
def test_show_says_where_models_and_tasks_are(name: str, what: str) -> None:
    """They are names that `list` lists, and no misspelt mechanism."""
    found = CliRunner().invoke(cli.app, ["show", name])
    assert found.exit_code == 2
    assert f"{name!r} is one of the {what}: `designspace list {what}`" in found.stderr
