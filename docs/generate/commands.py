"""The page of the commands, from Typer."""

from __future__ import annotations

import re
from typing import Any

import typer

from designspace.cli.app import _GROUPS, app
from docs.generate.markdown import prose, table

HEAD = """# Commands

`designspace COMMAND --help` prints the same. An option in brackets says what is taken without it. Results go to stdout; errors,
warnings and progress to stderr. [Exit codes](../exit-codes.md) are those of all commands.
"""


def page() -> str:
    """Return every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts, names = [HEAD.rstrip()], [name for members in _GROUPS.values() for name in members]
    for title, members in _GROUPS.items():
        rows = [[f"[`{name}`](#{name})", prose(_first(group.commands[name].help))] for name in members]
        parts.append(table([title.lower(), "what it does"], rows))
    assert {*names} == {*group.commands}
    return "\n\n".join([*parts, *(_section(group, name, group.commands[name]) for name in names)]) + "\n"


def _section(group: Any, name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name, parent=group.context_class(group, info_name="designspace"))
    usage = " ".join(command.collect_usage_pieces(context))
    text = [
        _paragraph(paragraph) for paragraph in [*(command.help or "").split("\n\n"), command.epilog or ""] if paragraph
    ]
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
