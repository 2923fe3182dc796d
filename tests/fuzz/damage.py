"""Damage to text files, drawn from a seed: bytes that flip, files that end early, values of another kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# What a value may turn into. Numbers that are too large, kinds that do not belong there, and characters that end a line
# elsewhere than in JSON.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 7, 10**9, 2**31, 2**63, 10**30, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "\n", "x", "1", "nan", "null", "~", "a\u2028b", "a\x85b", "\ufeffx", "\x00", "\ud800", "é", "x" * 5_000),
    *("../..", "/", ".", "/dev/null", "none.jsonl", "{problem}", "{0}", "%", "*x", "&x", "!x", "- x", "snapkv", "full"),
    *([], {}, [[]], [None], ["x"], [1, 2], [{}], {"": 1}, {"kind": "x"}, {"kind": None}, {"tune": {"choices": [1, 2]}}),
    *(
        {"tune": {"low": 1, "high": 9}},
        {"name": "x", "path": "y"},
        {"tokens": 64, "of": "peak"},
        {"x": {"x": {"x": 1}}},
    ),
)
# What a file may get in its middle.
ODD_BYTES: tuple[bytes, ...] = (
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xc3", b"\xe2\x80\xa8", b"\xc2\x85", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b"\t"),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b",", b":", b"#", b"%", b"&a ", b"*a", b"!!python/object:os.system ", b"<<: "),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5_000, b"-", b"---\n", b"...\n", b"? ", b"| ", b"@", b"`", b"\\ud800", b"\\u0000"),
    *(b"[" * 3_000, b'{"a":' * 3_000, b"- " * 500),
)  # fmt: skip

Damage = Callable[[Random, bytes], bytes]


def damaged(random: Random, content: bytes, others: Sequence[Damage]) -> bytes:
    """Return a file with one to three faults; others: ways that only this sort of file has, drawn as often as bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice((random.choice(BYTES), *others))(random, content)
    return content


def _flipped(random: Random, content: bytes) -> bytes:
    if not content:
        return content
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def _cut_off(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _cut_out(random: Random, content: bytes) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + content[start + random.randrange(1, 30) :]


def _with_odd_bytes(random: Random, content: bytes) -> bytes:
    place = random.choice((0, len(content), random.randrange(len(content) + 1)))
    return content[:place] + random.choice(ODD_BYTES) + content[place:]


def _line_twice(random: Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    lines.insert(random.randrange(len(lines) + 1), random.choice(lines))
    return b"".join(lines)


def _line_gone(random: Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    del lines[random.randrange(len(lines))]
    return b"".join(lines)


def _lines_swapped(random: Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def _in_another_encoding(random: Random, content: bytes) -> bytes:
    return content.decode("utf-8", "replace").encode(
        random.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32")), "replace"
    )


def _with_other_line_ends(random: Random, content: bytes) -> bytes:
    return content.replace(b"\n", random.choice((b"\r\n", b"\r", b"\xe2\x80\xa8", b"\n \n")))


def _replaced_whole(random: Random, content: bytes) -> bytes:
    return random.choice(
        (b"", b" \n", b"\x00" * 64, b"null", b"[]", b"{}", b"7", b"PK\x03\x04\x00", content * 2, b"\xef\xbb\xbf")
    )


BYTES: tuple[Damage, ...] = (
    *(
        _flipped,
        _flipped,
        _cut_off,
        _cut_out,
        _with_odd_bytes,
        _with_odd_bytes,
        _line_twice,
        _line_gone,
        _lines_swapped,
    ),
    *(_in_another_encoding, _with_other_line_ends, _replaced_whole),
)


def json_damaged(random: Random, content: bytes, names: Sequence[str] = (), values: Sequence[Any] = ()) -> bytes:
    """Return a JSON document with one value, or one key, replaced; what is no JSON any more stays as it is.

    names: keys that mean something in this sort of file. values: of that sort too.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return json.dumps(data_damaged(random, data, names, values)).encode()


def data_damaged(random: Random, data: Any, names: Sequence[str] = (), values: Sequence[Any] = ()) -> Any:
    """Return plain data with one value, or one key, replaced."""
    data = copy.deepcopy(data)
    places = list(_places(data))
    if not places:
        return _odd(random, values)
    parent, key = random.choice(places)
    way = random.randrange(6)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        parent[random.choice((*names, "", "unknown", str(key) + "s"))] = parent.pop(key)
    elif way == 2:
        parent[key] = random.choice(([parent[key]], {"x": parent[key]}, str(parent[key]), _nested(parent[key])))
    elif way == 3 and isinstance(parent, dict) and names:
        parent[random.choice(names)] = _odd(random, values)
    elif way == 4 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    else:
        parent[key] = _odd(random, values)
    return data


def _odd(random: Random, values: Sequence[Any]) -> Any:
    return copy.deepcopy(random.choice(random.choice((ODD_VALUES, values or ODD_VALUES))))


def _nested(value: Any) -> Any:
    for _ in range(400):
        value = [value]
    return value


def _places(data: Any) -> Any:
    """Yield every place of the data as a mapping or list and a key of it."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from _places(value)
