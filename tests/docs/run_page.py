"""python -m tests.docs.run_page PAGE …: runs the blocks of pages in their order, in the working folder, as a reader would.

A block with a title is written to that file. Lines of `sh` are commands, Python without a title is run, all of a page's in one
namespace. A `text` block after them is what a reader will see: each of its lines must be among what they printed, whatever the
numbers are, and `…` stands for anything.
"""

from __future__ import annotations

import contextlib
import glob
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
_EXIT_CODE = re.compile(r"# exit code (\d+)$")


class Block(NamedTuple):
    """A fenced block of a page; title: the file that it is written to."""

    language: str
    title: str
    body: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    return (Block(language, title or "", body) for language, title, body in _BLOCK.findall(page))


def run(page: str) -> None:
    """Run a page.

    Raises:
        AssertionError: a command ends with another exit code, or prints something else.
    """
    printed, names = "", dict[str, Any]()
    for language, title, body in blocks(page):
        if title:
            Path(title).write_text(body, encoding="utf-8")
        elif language == "sh":
            printed = "".join(_command(line) for line in body.splitlines())
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(body, "a block of the page", "exec"), names)
            printed = output.getvalue()
        elif language == "text":
            _compare(body, printed)


def _command(line: str) -> str:
    code = int(found[1]) if (found := _EXIT_CODE.search(line)) else 0
    program, *arguments = shlex.split(line, comments=True)
    if program == "pip":
        assert arguments == ["install", "-e", "."]
        return _install()
    assert program == "designspace", line
    from designspace.cli.app import app

    done = CliRunner().invoke(
        app, [name for argument in arguments for name in sorted(glob.glob(argument)) or [argument]]
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"{line}: exit code {done.exit_code}\n{done.output}"
    return done.output


def _install() -> str:
    """Register the entry points of the working folder's project, as an editable installation would."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = Path(f"{project['name'].replace('-', '_')}-{project['version']}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    return ""


def _compare(expected: str, printed: str) -> None:
    there = [_shape(line) for line in printed.splitlines()]
    missing = [
        line for line in expected.splitlines() if line.strip() and not any(_fits(line, other) for other in there)
    ]
    assert missing == [], "\n".join(["not printed:", *missing, "but:", printed])


def _fits(expected: str, shape: str) -> bool:
    pattern = ".*".join(re.escape(_shape(part)) for part in expected.split("…"))
    return re.search(rf"(?<!\S){pattern}", shape) is not None


def _shape(line: str) -> str:
    """Return a line without its numbers, which differ from machine to machine, and with single blanks."""
    return " ".join(re.sub(r"[+−-]?\d[\d.,]*\d|[+−-]?\d", "0", line).split())


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    for page in sys.argv[1:]:
        print(page, flush=True)
        run(Path(page).read_text(encoding="utf-8"))
