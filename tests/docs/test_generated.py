"""The pages of the reference that are made from the code say what the code says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from designspace.engine.retention import Change, RetentionRecord
from designspace.registry import catalog
from docs.generate.declarations import declared, shown
from docs.generate.environment import READ, read_in_code
from docs.generate.figures import FIGURES, entries
from docs.generate.markdown import Docstring, plain, prose, table
from docs.generate.pages import generated, outdated
from docs.generate.retention import picture, shares

MOST_BYTES_OF_PICTURES = 1_500_000


def test_pages_are_current() -> None:
    """`python -m docs.generate` would change nothing."""
    assert outdated() == []


def test_every_section_of_a_declaration_is_shown() -> None:
    """And every field says what it means."""
    rows = [line for line in generated()["sweep-file.md"].splitlines() if line.startswith("| `")]

    assert shown() == declared()
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_variable_that_the_code_reads_is_explained() -> None:
    """No more, and no fewer."""
    assert read_in_code() == {*READ}


def test_every_parameter_is_explained() -> None:
    """On the page of its strategy."""
    pages = [text for file, text in generated().items() if file.startswith("strategies/")]

    assert [
        line for text in pages for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")
    ] == []


def test_pictures_are_of_systems_and_small() -> None:
    """None is left of a system that is gone, and a shipped sweep declares none that is not there."""
    pictures = [*FIGURES.glob("*.png")]

    assert {picture.stem for picture in pictures} <= {*catalog()}
    assert len(pictures) > 60
    assert sum(picture.stat().st_size for picture in pictures) < MOST_BYTES_OF_PICTURES
    assert {name for name in entries() if name in catalog()} > {"h2o", "quest", "rocket-kv"}


def test_a_picture_shows_who_holds_what() -> None:
    """Two heads, a prompt of two tokens, three steps: white where nobody holds a token, or it is not there yet."""
    record = RetentionRecord(b"", 2, np.array([[[True, True], [True, False]]]))
    record.newest += [2, 3, 4]
    record.changes.append(Change(2, 0, 0, np.array([0, 2], dtype=np.int32), np.array([], dtype=np.int32)))
    seen = shares(record)
    nan = np.nan

    np.testing.assert_array_equal(
        seen, [[1, 0.5, nan, nan, nan], [1, 0.5, 1, nan, nan], [0.5, 0.5, 0.5, 1, nan], [0.5, 0.5, 0.5, 1, 1]]
    )
    colours = np.asarray(picture(seen, 2).convert("RGB"), dtype=int)
    assert isinstance(picture(seen, 2), Image.Image)
    assert colours[1, 2].tolist() == [0, 0, 0]
    assert colours[0, 4].tolist() == [255, 255, 255]
    assert colours[0, 0].tolist() == [30, 70, 180]
    assert colours[2, 2, 0] == colours[2, 2, 2] > 0
    assert colours[0, 1, 0] < colours[0, 1, 2] < 255


def test_a_docstring_becomes_a_page() -> None:
    """Paragraphs are joined, formulas are code, attributes of one line share their words."""

    def documented() -> None:
        """Prefer a * b [zhang2024cam].

        Over
        two lines, <kept>, `a * b` and **bold**:

            S = a *
                b

        Attributes:
            one, two: of both,
                on two lines.
            three: a [0, 1] number.

        Raises:
            ValueError: never.
        """

    doc = Docstring(documented)

    assert doc.text.split("\n\n") == [
        "Prefer a \\* b [zhang2024cam](https://openreview.net/forum?id=LCTmppB165).",
        "Over two lines, &lt;kept>, `a * b` and **bold**:",
        "```text\nS = a *\n    b\n```",
    ]
    assert doc.names == {"one": "of both, on two lines.", "two": "of both, on two lines.", "three": "a [0, 1] number."}
    assert doc.sections["Raises"] == {"ValueError": "never."}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (1, "1"), (1.0, "1.0"), (None, "null"), ("top-k", "top-k"), ("\n", '"\\n"'), ([1, "a b"], '[1, "a b"]'),
        ({"kind": "top-k"}, "top-k"), ({"kind": "mmr", "weight": 0.5}, "{kind: mmr, weight: 0.5}"),
    ],
)  # fmt: skip
def test_values_are_written_as_in_a_sweep(value: object, text: str) -> None:
    """So that they can be copied."""
    assert plain(value) == text


def test_tables_hold_any_text() -> None:
    """A bar or a line break is no end of a cell."""
    assert table(["a"], [["b|c\nd"]]) == "| a |\n| --- |\n| b\\|c d |"
    assert prose("unknown keys [smith1999] stay") == "unknown keys [smith1999] stay"
