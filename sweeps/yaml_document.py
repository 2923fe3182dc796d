"""YAML 1.2 to plain data, with the position of everything in it.

The node tree is walked by hand instead of being constructed: every key and value keeps its line and column, all
duplicate keys are found at once, and nothing but mappings, lists and five scalar types can come out. YAML 1.1 is not an
option: it reads `1e-3` as a string and `012` as ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from designspace.errors import DeclarationError

PathKey = str | int
DataPath = tuple[PathKey, ...]

_TAG = "tag:yaml.org,2002:"
# Dates have no use here, and `study: 2026-01-01` should be the name that it looks like.
_TEXT_TAGS = (f"{_TAG}str", f"{_TAG}timestamp")
# 0.1 + 0.2 and 0.3 must hash alike, so floats are rounded once, here, before anything runs with them.
_FLOAT_DIGITS = 12
# A sweep written by hand has some thousands; the reader takes seconds for a million.
_MOST_BYTES = 2**20
_MOST_CHARACTERS = 1_000  # of a message, which may show what stands in the file


@dataclass(frozen=True, order=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """Plain data with positions.

    Attributes:
        source: the file name as the user wrote it; it opens every message.
        keys: where a path's key stands. values: where its value starts.
    """

    source: str
    text: str
    data: dict[str, Any]
    keys: dict[DataPath, Position]
    values: dict[DataPath, Position]

    def position(self, path: DataPath, *, of_key: bool = False) -> Position:
        """Return where a path stands; a path that is not in the file stands where its nearest parent does."""
        table = self.keys if of_key else self.values
        while path and path not in table:
            path = path[:-1]
        return table.get(path, Position(1, 1))


def path_text(path: DataPath) -> str:
    """Return a path as `mechanisms[1].scoring.lam`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def located(source: str, position: Position, message: str) -> str:
    """Return `file:line:col: message`, on one line whatever the message shows of the file; a long one is cut."""
    shortened = message if len(message) <= _MOST_CHARACTERS else f"{message[:_MOST_CHARACTERS]}…"
    return f"{source}:{position.line}:{position.column}: {' '.join(shortened.splitlines())}"


def read_document(path: str | Path) -> Document:
    """Read a YAML file.

    Raises:
        DeclarationError: it cannot be read or is not one plain YAML mapping; one message per problem.
    """
    source = str(path)
    try:
        _check_file(Path(path))
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = f"must be UTF-8 text, got byte 0x{error.object[error.start]:02x}"
        raise DeclarationError(located(source, Position(line, 1), byte)) from None
    except OSError as error:
        raise DeclarationError(f"{source}: cannot be read: {error.strerror or type(error).__name__}") from None
    return parse_document(text, source)


def _check_file(path: Path) -> None:
    """Refuse what would keep the reader waiting: a pipe that nobody writes to, a file of another sort.

    Raises:
        DeclarationError: it is no regular file, or too large.
        OSError: it is not there.
    """
    found = path.stat()
    if not S_ISREG(found.st_mode) and not S_ISDIR(found.st_mode):  # reading a folder says so by itself
        raise DeclarationError(f"{path}: cannot be read: it must be a regular file, got a pipe or a device")
    if found.st_size > _MOST_BYTES:
        raise DeclarationError(
            located(str(path), Position(1, 1), f"must have at most {_MOST_BYTES:,} bytes, got {found.st_size:,}")
        )


def parse_document(text: str, source: str) -> Document:
    """Turn YAML text into plain data with positions.

    Raises:
        DeclarationError: it is not one plain YAML mapping.
    """
    root = _compose(text, source)
    if root is None:
        raise DeclarationError(located(source, Position(1, 1), "the file is empty: a sweep is a mapping"))
    walk = _Walk(source)
    data = walk.plain(root, ())
    if not isinstance(root, MappingNode) and not walk.problems:
        walk.refuse(root, f"a sweep must be a mapping at the top, got {shown(data)}")
    if walk.problems:
        raise DeclarationError(walk.problems)
    return Document(source, text, data, walk.keys, walk.values)


def shown(value: Any) -> str:
    """Return a value as a message shows it, in YAML's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)


def _compose(text: str, source: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    # A directive would switch the reader back to YAML 1.1 for this file only.
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("%"):
            raise DeclarationError(located(source, Position(number, 1), f"directives are not supported, got {line!r}"))
        if line.strip() and not line.startswith("#"):
            break
    try:
        root: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        raise DeclarationError(located(source, *_syntax_error(error))) from None
    except ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        position = Position(len(before), len(before[-1]) + 1)
        raise DeclarationError(
            located(source, position, f"not valid YAML: character {error.character!r} is not allowed")
        ) from None
    except (YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise DeclarationError(located(source, Position(1, 1), f"not valid YAML: {reason}")) from None
    return root


def _syntax_error(error: MarkedYAMLError) -> tuple[Position, str]:
    mark = error.problem_mark or error.context_mark
    position = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    context = f"{error.context}: " if error.context else ""
    hint = " (indent with spaces, not tabs)" if "'\\t'" in str(error.problem) else ""
    return position, f"not valid YAML: {context}{error.problem}{hint}"


class _Walk:
    """One pass over a node tree that collects data, positions and everything that is refused."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []
        self.keys: dict[DataPath, Position] = {}
        self.values: dict[DataPath, Position] = {}

    def refuse(self, node: Node, message: str, path: DataPath = ()) -> None:
        text = f"{path_text(path)}: {message}" if path else message
        self.problems.append(located(self.source, _start(node), text))

    def plain(self, node: Node, path: DataPath) -> Any:
        self.values[path] = _start(node)
        if node.anchor:
            # An alias is the same node again, so refusing the anchor also stops cycles and exponential expansion.
            self.refuse(node, f"anchors and aliases are not supported, got &{node.anchor}: write the value out", path)
            return None
        if not isinstance(node, ScalarNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self.refuse(node, f"tags are not supported, got {_tag_of(node)}", path)
            return None
        if isinstance(node, MappingNode):
            return dict(self._entries(node, path))
        if isinstance(node, SequenceNode):
            return [self.plain(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _entries(self, node: MappingNode, path: DataPath) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Position] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag not in _TEXT_TAGS:
                self.refuse(key_node, "a key must be plain text" + _merge_hint(key_node), path)
                continue
            key, child = str(key_node.value), (*path, str(key_node.value))
            if key in seen:
                self.refuse(key_node, f"duplicate key, first given at line {seen[key].line}", child)
                continue
            seen[key] = self.keys[child] = _start(key_node)
            value = self.plain(value_node, child)
            if value is None:
                # The mark of an empty value is that of the next token, often on another line.
                self.values[child] = seen[key]
            yield key, value

    def _scalar(self, node: Node, path: DataPath) -> Any:
        text = str(node.value)
        if node.tag in _TEXT_TAGS:
            return text
        if node.tag == f"{_TAG}null":
            return None
        if node.tag == f"{_TAG}bool":
            return text.lower() == "true"
        try:
            if node.tag == f"{_TAG}int":
                return _integer(text)
            if node.tag == f"{_TAG}float":
                return self._finite(node, float(f"{_float(text):.{_FLOAT_DIGITS}g}"), path)
        except ValueError:
            self.refuse(node, f"not a number that fits 64 bits: {text[:40]}", path)
            return None
        self.refuse(node, f"tags are not supported, got {_tag_of(node)}", path)
        return None

    def _finite(self, node: Node, value: float, path: DataPath) -> float | None:
        if isfinite(value):
            return value
        # No field takes one, and neither identities nor JSON can hold it.
        self.refuse(node, f"must be a finite number, got {value}", path)
        return None


def _start(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _tag_of(node: Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def _merge_hint(node: Node) -> str:
    return " (merge keys are not supported)" if node.tag == f"{_TAG}merge" else ""


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    prefixed = digits.lstrip("+-").lower().startswith(("0x", "0o", "0b"))
    value = int(digits, 0) if prefixed else int(digits)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _float(text: str) -> float:
    word = text.lower().replace("_", "")
    return float(word.replace(".inf", "inf").replace(".nan", "nan"))
