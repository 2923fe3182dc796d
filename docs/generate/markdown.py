"""Markdown from plain text: tables, docstrings, references."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from designspace.cli.bibliography import KEY, Reference, bibliography

_KEPT = re.compile(r"`[^`]*`|\*\*[^*`]+\*\*")  # code, and what is bold
_ENTRY = re.compile(r"^    ((?:\w+, )*\w+): (.*)$")
_SECTIONS = ("Attributes", "Args", "Raises")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown, and a line break or a bar in one is no end of it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def prose(text: str) -> str:
    """Return plain text as Markdown: signs that mean something there are escaped, citation keys become links."""
    parts, end = [], 0
    for kept in _KEPT.finditer(text):
        parts += [_escaped(text[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    text = text.replace("*", "\\*").replace("<", "&lt;")
    return re.sub(rf"\[({KEY}(?:, {KEY})*)\]", lambda keys: ", ".join(map(cited, keys[1].split(", "))), text)


def cited(key: str) -> str:
    """Return a citation as a link."""
    found = bibliography().get(key)
    return f"[{key}]({found.url})" if found else f"[{key}]"


def reference(key: str, found: Reference) -> str:
    """Return a whole reference."""
    return f"{', '.join(found.authors)}: [{prose(found.title)}]({found.url}). {found.venue} {found.year}. `[{key}]`"


def default(value: Any) -> str:
    """Return a parameter's value as it would be written in a sweep."""
    return f"`{plain(value)}`"


def plain(value: Any) -> str:
    """Return a value as YAML would have it in one line."""
    if isinstance(value, Mapping):
        if list(value) == ["kind"]:
            return str(value["kind"])
        return "{" + ", ".join(f"{name}: {plain(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w.-]+", value) else '"' + value.replace("\n", "\\n") + '"'
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


class Docstring:
    """A docstring in parts: its text as Markdown, and what it says of each attribute, argument or error."""

    def __init__(self, what: object) -> None:
        sections: dict[str, list[str]] = {"": []}
        name = ""
        for line in (inspect.getdoc(what) or "").splitlines():
            if line.removesuffix(":") in _SECTIONS:
                name = line.removesuffix(":")
                sections[name] = []
            else:
                sections[name].append(line)
        self.text = "\n\n".join(_paragraphs(sections.pop("")))
        self.sections = {name: dict(_entries(lines)) for name, lines in sections.items()}

    @property
    def names(self) -> dict[str, str]:
        """What is said of each attribute or argument."""
        return self.sections.get("Attributes", {}) | self.sections.get("Args", {})

    def lists(self) -> str:
        """Return the sections as lists."""
        parts = []
        for name, entries in self.sections.items():
            title = {"Args": "Arguments"}.get(name, name)
            parts.append(f"{title}:\n\n" + "\n".join(f"* `{entry}`: {says}" for entry, says in entries.items()))
        return "\n\n".join(parts)


def _paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Yield paragraphs; indented ones are code, and lines of a list stay lines."""
    for paragraph in "\n".join(lines).strip("\n").split("\n\n"):
        rows = [row for row in paragraph.split("\n") if row.strip()]
        if not rows:
            continue
        if all(row.startswith("    ") for row in rows):
            yield "\n".join(["```text", *inspect.cleandoc("\n" + "\n".join(rows)).splitlines(), "```"])
        elif any(re.match(r"\s*([-*]|\d\.) ", row) for row in rows):
            yield "\n".join(prose(row) if not row.startswith("* ") else f"* {prose(row[2:])}" for row in rows)
        else:
            yield prose(" ".join(row.strip() for row in rows))


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield names and what is said of them; a line of several names gives each the same words."""
    names, words = "", list[str]()
    for line in [*lines, "    end: "]:
        found = _ENTRY.match(line)
        if found is None:
            words.append(line.strip())
            continue
        for name in filter(None, names.split(", ")):
            yield name, prose(" ".join(filter(None, words)))
        names, words = found[1], [found[2]]
