"""The bibliography: complete, read strictly, shipped, and shown in place of bare keys."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from designspace.cli.bibliography import KEY, Reference, bibliography, parse, references_in
from designspace.cli.describe import describe, description_text
from designspace.errors import InvariantViolation
from designspace.registry import REGISTRY_AXES, catalog, kinds, strategy
from tests.conftest import REPOSITORY

ENTRY = "@misc{sun2026, author = {A. Sun and {\u00c9}. Moon}, title = {On {KV}}, year = {2026}, eprint = {2605.1}}"
PROSE = ("designspace", "families", "sweeps", "cluster", "docs")


def test_every_entry_can_be_followed() -> None:
    """All authors by name, a title, a venue, and an address that is of its own."""
    text = (REPOSITORY / "docs/references.bib").read_text(encoding="utf-8")
    found = bibliography()

    assert len(found) == text.count("\n@") > 50
    for key, entry in found.items():
        assert re.fullmatch(r"https://\S+/\S+", entry.url), key
        assert all(entry.authors) and "others" not in entry.authors, key
        assert entry.title and entry.venue and re.fullmatch(r"(19|20)\d\d", entry.year), key
    assert len({entry.url for entry in found.values()}) == len({entry.title for entry in found.values()}) == len(found)


def test_every_key_that_is_used_is_there() -> None:
    """Those that strategies and systems carry, and those in the square brackets of any text."""
    used = {entry.citation for entry in catalog().values()}
    used |= {strategy(axis, kind).citation for axis in REGISTRY_AXES for kind in kinds(axis)}
    texts = [
        file for folder in PROSE for file in (REPOSITORY / folder).rglob("*") if file.suffix in (".py", ".md", ".yaml")
    ]
    for file in (*texts, *REPOSITORY.glob("*.md")):
        used |= set(re.findall(rf"\[({KEY})\]", file.read_text(encoding="utf-8")))

    assert len(used) > 40
    assert used - {None} - bibliography().keys() == set()


def test_an_entry_in_words() -> None:
    """Braces that keep capitals are for BibTeX; an open address comes before one behind a wall."""
    both = ENTRY.replace("eprint", "booktitle = {ICLR}, doi = {10.1/2}, eprint")
    doi = ENTRY.replace("eprint = {2605.1}", "journal = {J}, doi = {10.1/(9)<1>2}")

    authors = ("A. Sun", "\u00c9. Moon")
    assert parse(ENTRY) == {"sun2026": Reference(authors, "On KV", "arXiv", "2026", "https://arxiv.org/abs/2605.1")}
    assert parse(both)["sun2026"][2:] == ("ICLR", "2026", "https://arxiv.org/abs/2605.1")
    assert parse(doi)["sun2026"][2:] == ("J", "2026", "https://doi.org/10.1/(9)%3C1%3E2")


@pytest.mark.parametrize(
    "wrong",
    [
        ENTRY[:-1],
        ENTRY + ",",
        ENTRY.replace("title = {On {KV}}", "title = {On {KV}"),
        ENTRY.replace("title = {On {KV}}", 'title = "On KV"'),
        ENTRY.replace("{\u00c9}.", "{\\'E}."),
        ENTRY.replace("}, year", "} year"),
        ENTRY.replace("eprint", "note"),
        ENTRY.replace("author", "editor"),
        f"{ENTRY}\n{ENTRY}",
        "title = {On {KV}}",
    ],
)
def test_anything_else_is_refused(wrong: str) -> None:
    """By file and line, so that a slip is found where it was made."""
    with pytest.raises(InvariantViolation, match=r"references\.bib:\d"):
        parse(wrong)


def test_keys_of_a_text() -> None:
    """In their order, once each; a key of another package is no error."""
    found = references_in("as in [zhang2023h2o] and [li2024snapkv], [zhang2023h2o]; see [nobody2020x] [L,E,H]")

    assert list(found) == ["zhang2023h2o", "li2024snapkv"]


def test_a_system_is_shown_with_its_references() -> None:
    """The system's own and those of its strategies, to be read and to be clicked."""
    described = describe("cam")
    text = description_text(described)

    assert list(described["references"]) == ["zhang2024cam", "xiao2024streamingllm"]
    assert described["references"]["zhang2024cam"]["authors"][:2] == ["Yuxin Zhang", "Yuxuan Du"]
    after = text.partition("\nreferences\n")[2]
    assert after.startswith("  [zhang2024cam] Yuxin Zhang, Yuxuan Du, ")
    assert "\n    CaM: Cache Merging for Memory-efficient LLMs Inference. ICML 2024\n" in after
    assert "\n    https://openreview.net/forum?id=LCTmppB165\n" in after
    assert set(re.findall(rf"\[({KEY})\]", text)) == described["references"].keys()


def test_a_strategy_is_shown_with_its_references() -> None:
    """Whatever its description cites; nothing where nothing is cited."""
    assert description_text(describe("representation.qaq")).endswith("    https://arxiv.org/abs/2403.04643")
    assert describe("head_routing.uniform")["references"] == {}
    assert "references" not in description_text(describe("head_routing.uniform"))


def test_the_wheel_carries_it() -> None:
    """Under the name that is looked for; in a checkout it is only in `docs`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]

    assert included == {"docs/references.bib": "designspace/cli/references.bib"}
    assert not (files("designspace.cli") / "references.bib").is_file()
