"""The page of the commands, from Typer."""

from __future__ import annotations

import re
from typing import Any

import typer

from designspace.cli.app import app
from docs.generate.markdown import prose, table

HEAD = """# Commands

`designspace COMMAND --help` prints the same. An option in brackets says what is taken without it. Results go to stdout; errors,
warnings and progress to stderr. [Exit codes](../exit-codes.md) are those of all commands.
"""


def page() -> str:
    """Return every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    rows = [[f"[`{name}`](#{name})", prose(_first(command.help))] for name, command in group.commands.items()]
    sections = [_section(group, name, command) for name, command in group.commands.items()]
    return "\n\n".join([HEAD.rstrip(), table(["command", "what it does"], rows), *sections]) + "\n"


def _section(group: Any, name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name, parent=group.context_class(group, info_name="designspace"))
    usage = " ".join(command.collect_usage_pieces(context))
    text = [_paragraph(paragraph) for paragraph in (command.help or "").split("\n\n")]
    records = [record for param in command.params if (record := param.get_help_record(context))]
    rows = [[f"`{names}`", prose(re.sub(r"\s+", " ", says))] for names, says in records]
    options = table(["argument or option", "meaning"], rows)
    return "\n\n".join([f"## {name}", f"```text\ndesignspace {name} {usage}\n```", *text, options])


def _paragraph(text: str) -> str:
    joined = " ".join(text.split())
    example = re.fullmatch(r"Example: (designspace .*)", joined)
    return f"Example:\n\n```text\n{example[1]}\n```" if example else prose(joined)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
