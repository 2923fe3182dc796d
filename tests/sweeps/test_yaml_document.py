"""Reading YAML: 1.2 scalars, and the position of every key and value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from designspace.errors import DeclarationError
from sweeps.yaml_document import Position, parse_document, path_text, read_document

TEXT = """\
small: 1e-3
octal: 012
flag: on
real: true
date: 2026-01-01
hex: 0x1F
big: 1_000
sum: 0.30000000000000004
none: ~
empty:
list: [a, {b: 1.5}]
"""


def test_scalars_are_read_as_yaml_1_2() -> None:
    """What YAML 1.1 gets wrong: exponents, octals, on/off; dates stay text, floats keep 12 digits."""
    expected = {
        "small": 0.001,
        "octal": 12,
        "flag": "on",
        "real": True,
        "date": "2026-01-01",
        "hex": 31,
        "big": 1000,
        "sum": 0.3,
        "none": None,
        "empty": None,
        "list": ["a", {"b": 1.5}],
    }
    assert expected == parse_document(TEXT, "x.yaml").data


def test_numbers_keep_their_type() -> None:
    """An integer stays an integer: strict validation depends on it."""
    data = parse_document("a: 1\nb: 1.0\nc: -2\nd: +3\n", "x.yaml").data
    assert [(1, int), (1.0, float), (-2, int), (3, int)] == [(value, type(value)) for value in data.values()]


@pytest.mark.parametrize(
    ("path", "of_key", "expected"),
    [
        (("octal",), True, Position(2, 1)),
        (("octal",), False, Position(2, 8)),
        (("empty",), False, Position(10, 1)),
        (("list", 1), False, Position(11, 11)),
        (("list", 1, "b"), True, Position(11, 12)),
        (("list", 1, "b"), False, Position(11, 15)),
        (("list", 1, "absent", "deeper"), False, Position(11, 11)),
        (("nowhere",), False, Position(1, 1)),
    ],
)
def test_positions(path: tuple[str | int, ...], of_key: bool, expected: Position) -> None:
    """Keys and values have their own positions; what is absent stands where its parent does."""
    assert expected == parse_document(TEXT, "x.yaml").position(path, of_key=of_key)


def test_a_path_reads_as_one_would_write_it() -> None:
    """Dots for keys, brackets for indices."""
    assert path_text(("mechanisms", 1, "scoring", "lam")) == "mechanisms[1].scoring.lam"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object:os.system\na: 1\n", "x.yaml:1:1: tags are not supported, got python/object:os.system"),
        ("a: !!set {b: }\n", "x.yaml:1:4: a: tags are not supported, got set"),
        ("a: !!omap [b: 1]\n", "x.yaml:1:4: a: tags are not supported, got omap"),
        ("a: !own text\n", "x.yaml:1:4: a: tags are not supported, got !own"),
        ("a: [.nan]\n", "x.yaml:1:5: a[0]: must be a finite number, got nan"),
        ("a: -.inf\n", "x.yaml:1:4: a: must be a finite number, got -inf"),
        ("a: 1e999\n", "x.yaml:1:4: a: must be a finite number, got inf"),
    ],
)
def test_what_no_declaration_may_hold(text: str, message: str) -> None:
    """Tags, of mappings and lists too; numbers that neither an identity nor JSON can hold."""
    with pytest.raises(DeclarationError) as caught:
        parse_document(text, "x.yaml")
    assert caught.value.problems == (message,)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Reading one would wait for ever for somebody to write to it."""
    os.mkfifo(tmp_path / "x.yaml")
    with pytest.raises(DeclarationError, match=r"x.yaml: cannot be read: it must be a regular file, got a pipe"):
        read_document(tmp_path / "x.yaml")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A list of ten megabytes would take the reader minutes."""
    (tmp_path / "x.yaml").write_text("a: [" + "1," * 5_000_000 + "1]\n")
    with pytest.raises(DeclarationError, match=r"x.yaml:1:1: must have at most 1,048,576 bytes, got 10,000,007"):
        read_document(tmp_path / "x.yaml")
