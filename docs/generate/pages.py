"""All pages that are made from the code, and whether they are current."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from docs.generate import commands, declarations, environment, python_names, strategies, systems

REFERENCE = Path(__file__).parents[1] / "reference"
NOTE = "<!-- Made by `python -m docs.generate`: change the code that it is made from. -->\n\n"


@cache
def generated() -> dict[str, str]:
    """Return the text of every page by its place in the folder of the reference."""
    made = {
        "commands.md": commands.page(),
        "sweep-file.md": declarations.page(),
        "environment.md": environment.page(),
        "python.md": python_names.page(),
        **{f"strategies/{file}": text for file, text in strategies.pages()},
        **{f"systems/{file}": text for file, text in systems.pages()},
    }
    return {file: NOTE + text for file, text in made.items()}


def outdated() -> list[str]:
    """Return the pages that differ from what the code says, are missing, or are of something that is no more."""
    written = {
        file.relative_to(REFERENCE).as_posix(): file.read_text(encoding="utf-8") for file in REFERENCE.rglob("*.md")
    }
    return sorted(file for file in {*written, *generated()} if written.get(file) != generated().get(file))
