"""Citation keys as references that can be followed: authors, title, venue, address."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import quote

from designspace.errors import InvariantViolation

KEY = r"[a-z]+\d{4}\w*"
_ENTRY = re.compile(rf"@\w+\{{({KEY}), (.*)\}}")
_FIELD = re.compile(r"(\w+) = \{((?:[^{}\\]|\{[^{}\\]*\})+)\}(?:, (?=\w)|$)")


class Reference(NamedTuple):
    """One entry of the bibliography. url: where it can be read."""

    authors: tuple[str, ...]
    title: str
    venue: str
    year: str
    url: str


@cache
def bibliography() -> dict[str, Reference]:
    """Return the entries of `docs/references.bib`, which the wheel carries, by key."""
    beside = files("designspace.cli") / "references.bib"
    file = beside if beside.is_file() else files("designspace") / "../docs/references.bib"
    return parse(file.read_text(encoding="utf-8"))


def references_in(text: str) -> dict[str, Reference]:
    """Return what the keys in square brackets of a text stand for, in their order; unknown keys are left out."""
    keys = dict.fromkeys(re.findall(rf"\[({KEY})\]", text))
    return {key: bibliography()[key] for key in keys if key in bibliography()}


def parse(text: str) -> dict[str, Reference]:
    """Return the entries of a bibliography, one on each line.

    Raises:
        InvariantViolation: a line that is neither an entry in our form, nor a comment, nor empty; or a key that comes twice.
    """
    found: dict[str, Reference] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("%"):
            continue
        entry = _ENTRY.fullmatch(line)
        if entry is None or _FIELD.sub("", entry[2]) or entry[1] in found:
            raise InvariantViolation(f"references.bib:{number}: no entry of its own in our form, got {line[:60]!r}")
        fields = {name: value.replace("{", "").replace("}", "") for name, value in _FIELD.findall(entry[2])}
        if not {"author", "title", "year"} <= fields.keys() or not fields.keys() & {"eprint", "doi", "url"}:
            raise InvariantViolation(f"references.bib:{number}: {entry[1]} needs author, title, year and an address")
        found[entry[1]] = _reference(fields)
    return found


def _reference(fields: dict[str, str]) -> Reference:
    url = fields.get("url") or f"https://doi.org/{quote(fields.get('doi', ''), safe='/:;()')}"
    if "eprint" in fields:  # open to everybody
        url = f"https://arxiv.org/abs/{fields['eprint']}"
    venue = fields.get("booktitle") or fields.get("journal") or "arXiv"
    return Reference(tuple(fields["author"].split(" and ")), fields["title"], venue, fields["year"], url)
