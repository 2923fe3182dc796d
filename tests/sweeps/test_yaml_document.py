"""Reading YAML: 1.2 scalars, and the position of every key and value."""

from __future__ import annotations

import pytest

from sweeps.yaml_document import Position, parse_document, path_text

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
