"""The same mistake ends every command with the same exit code and one line: 2, as for any other mistake on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from designspace.cli import exit_codes
from designspace.cli.app import app
from designspace.cli.exit_codes import EXIT_USAGE
from tests.conftest import REPOSITORY

SWEEP = """\
schema: 1
study: s
models: [no-such]
tasks: [{name: chain-arithmetic, problems: 2}]
mechanisms: [full]
generation: {temperature: 0.0, max_new_tokens: 4, rows: 1}
"""
OF_A_SWEEP = (
    *(["run", "{}"], ["plan", "{}"], ["status", "{}"], ["effects", "{}"], ["register", "{}"]),
    *(["check", "x", "--sweep", "{}"], ["calibrate", "x", "--sweep", "{}"], ["bench", "x", "full", "--sweep", "{}"]),
)
OF_A_DOCUMENT = (
    ["amend", "{}", "--reason", "x"],
    ["tune", "{}"],
    ["confirm", "{}"],
    ["verify", "{}"],
    ["grade-cases", "{}"],
)
OF_RESULTS = (
    *(["report", "{}"], ["export", "{}", "--out", "x.csv"], ["export", "{}", "--out", "x.tex"], ["doctor", "{}"]),
    *(["query", "{}", "SELECT 1"], ["status", "{}"], ["effects", "{}"]),
)
OF_A_NAME = (
    *(["check", "{}"], ["calibrate", "{}"], ["calibrate", "pocket-llama", "{}"], ["bench", "{}", "full"]),
    *(["bench", "pocket-llama", "{}"], ["list", "{}"], ["show", "{}"], ["{}"], ["list", "--{}"]),
)
CASES = (
    *((command, "missing") for command in (*OF_A_SWEEP, *OF_A_DOCUMENT, *OF_RESULTS)),
    *((command, given) for command in OF_RESULTS for given in ("empty", "protocol")),
    *((command, "latin.txt") for command in OF_RESULTS[:5]),
    *((command, "broken.yaml") for command in OF_A_SWEEP),
    *((command, "unknown.yaml") for command in OF_A_SWEEP[:4]),
    *((command, "protocol/broken.json") for command in OF_A_DOCUMENT),
    *((command, "no-such-name") for command in OF_A_NAME),
    (["calibrate", "pocket-llama", "--text", "{}"], "missing"),
    (["calibrate", "pocket-llama", "--text", "{}"], "latin.txt"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("command", "given"), CASES, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_the_code_is_that_of_the_mistake(
    command: list[str], given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not there, what is no YAML or JSON, what nothing is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "protocol").mkdir()
    (tmp_path / "broken.yaml").write_text("schema: [1\n")
    (tmp_path / "unknown.yaml").write_text(SWEEP)
    (tmp_path / "protocol/broken.json").write_text("{")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    done = CliRunner().invoke(app, [part.format(given) for part in command])

    assert (done.exit_code, type(done.exception)) == (EXIT_USAGE, SystemExit), done.stderr
    # A usage error of the command line itself has typer's own form.
    assert done.stderr.startswith("Usage:") or (done.stderr.startswith("error: ") and done.stderr.count("\n") == 1)


def test_the_page_and_the_help_name_every_code() -> None:
    """Whoever writes a script finds them in both."""
    codes = {name: code for name, code in vars(exit_codes).items() if name.startswith("EXIT_")}
    page = (REPOSITORY / "docs/exit-codes.md").read_text(encoding="utf-8")
    (line,) = [line for line in (app.info.epilog or "").splitlines() if line.startswith("Exit codes:")]

    assert len(codes) == 5
    for name, code in codes.items():
        assert f"| {code} | `{name}` |" in page
        assert f" {code} " in line
