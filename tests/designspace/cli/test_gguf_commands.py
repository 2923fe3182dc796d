"""`designspace import`, and GGUF files where a command or a sweep names a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("gguf")
pytest.importorskip("accelerate")

from designspace.cli.app import app
from designspace.models.model_spec import forget_fingerprints
from sweeps.expand import expand
from sweeps.spec import load_sweep
from sweeps.task_data import task_data
from tests.designspace.models.test_gguf_import import file_of

SWEEP = """\
schema: 1
study: s
models: [{{name: m, {source}}}]
tasks: [{{name: sums, path: sums.jsonl, answer: integer}}]
budgets: [24]
mechanisms: [full, streaming-llm]
seeds: {{count: 1, root: 7}}
generation: {{temperature: 0.0, max_new_tokens: 6, rows: 2}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a GGUF file and problems, and a cache folder of its own."""
    monkeypatch.setenv("DESIGNSPACE_CACHE", str(tmp_path / "cache"))
    file_of(tmp_path, "qwen2")
    rows = [{"problem": f"{i} + 1", "answer": i + 1} for i in range(2)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    forget_fingerprints()
    return tmp_path


def call(*arguments: str | Path) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def sweep_with(folder: Path, source: str) -> Path:
    """Write a sweep whose model comes from somewhere."""
    (folder / "sweep.yaml").write_text(SWEEP.format(source=source))
    return folder / "sweep.yaml"


def ids_of(file: Path) -> list[str]:
    """Return the ids of all cells of a sweep."""
    sweep = load_sweep(file)
    return sorted(cell.cell_id for cell in expand(sweep, {task: task_data(task) for task in sweep.tasks}))


def test_import_makes_a_folder_once(folder: Path) -> None:
    """What it was made of is printed, also as JSON, and the second time nothing is done; an error is one line."""
    first = call("import", folder / "m.gguf", "--out", folder / "out")
    again = call("import", folder / "m.gguf", "--out", folder / "out", "--json")

    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert "out: qwen2, of m.gguf with tensors of 26 F32" in first.stdout
    assert ("once" in first.stderr, "once" in again.stderr) == (True, False)
    assert json.loads(again.stdout)["content"] in first.stdout
    (folder / "other.gguf").write_bytes(b"PK")
    refused = call("import", folder / "other.gguf", "--out", folder / "other")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1 and "not a GGUF file" in refused.stderr


def test_a_file_and_its_folder_are_the_same_cells(folder: Path) -> None:
    """A sweep that names the file, and one that names what `import` made of it."""
    call("import", folder / "m.gguf", "--out", folder / "out")
    by_file, by_folder = ids_of(sweep_with(folder, "gguf: m.gguf")), ids_of(sweep_with(folder, "path: out"))

    assert len(by_file) == 2
    assert by_file == by_folder


def test_a_sweep_of_a_file_runs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The plan imports it and says so, the run finds it there; commands on one model take the file too."""
    sweep = sweep_with(folder, "gguf: m.gguf")
    planned = call("plan", sweep, "--results", folder / "results")

    assert planned.exit_code == 0, planned.output
    assert [record.getMessage().partition(" to ")[0] for record in caplog.records if record.name == "designspace"] == [
        f"importing {folder / 'm.gguf'}"
    ]
    run = call("run", sweep, "--results", folder / "results", "--executor", "inline", "--no-report")
    assert run.exit_code == 0, run.output
    assert len(list((folder / "cache" / "gguf").iterdir())) == 1
    checked = call("check", folder / "m.gguf", "--json")
    assert json.loads(checked.stdout)["model_type"] == "qwen2"
