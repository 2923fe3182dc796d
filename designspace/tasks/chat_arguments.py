"""Arguments that a task gives to a model's chat template, such as `enable_thinking`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError

Value = bool | int | str


@dataclass(frozen=True)
class ChatArguments:
    """Arguments of a chat template by name; empty for none.

    Attributes:
        text: the arguments as canonical JSON. There false and 0 are two values, as they are to a template; to Python, and so
            to what compares and caches declarations, they would be one.
    """

    text: str = "{}"

    @classmethod
    def of(cls, given: Mapping[str, object]) -> ChatArguments:
        """Return arguments by name.

        Raises:
            DeclarationError: a name that no template can use, or a value that is neither true, false, a whole number nor text.
        """
        broken = [f"a chat template has no argument {name!r}" for name in given if not name.isidentifier()]
        broken += [
            f"the chat template's {name} must be true, false, a whole number or text, got {value!r:.80}"
            for name, value in given.items()
            if not isinstance(value, bool | int | str)
        ]
        if broken:
            raise DeclarationError(broken)
        return cls(canonical_json(dict(given)))

    @property
    def values(self) -> dict[str, Value]:
        """The arguments by name."""
        found: dict[str, Value] = json.loads(self.text)
        return found

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.values)
