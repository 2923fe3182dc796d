"""Thought-aware cache: what happens to the cache when the model has finished thinking."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, MinLen

from designspace.axes import Action, Controller, TextCodec
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class ThoughtAware(Wrapping):
    """Stop compressing, or drop the thought, once the model has closed its thinking [cai2025rkv].

    The closing tag is found as a sequence of tokens in the generated text. Only the first one counts.

    Attributes:
        mode: "compress-think-only" (the default): no compression after the tag, so the cache grows with the answer.
            "drop-thought": free the slots of the thought except its newest tokens; prompt and tag are kept. "off": the
            chooser alone.
        last: number of tokens before the tag that "drop-thought" keeps, as far as the cadence has left them; 64 by
            default.
        tag: text that closes the thinking. All text generated before it is the thought, an opening tag included.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "thought-aware"
    citation: ClassVar[str | None] = "cai2025rkv"

    mode: Literal["compress-think-only", "drop-thought", "off"] = "compress-think-only"
    last: Annotated[int, Ge(0)] = 64
    tag: Annotated[str, MinLen(1)] = "</think>"

    @property
    def grows(self) -> bool:
        """Whether compression stops at some point."""
        return self.mode == "compress-think-only"

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a controller that waits for the tag, or None if it has nothing to do."""
        return None if self.mode == "off" else _Watch(self, text.token_ids(self.tag))


class TagMatcher:
    """Follow a text token by token, and know how much of a tag stands at its end."""

    def __init__(self, tag: tuple[int, ...]) -> None:
        self.tag = tag
        self.n_tokens = 0
        self._tail: deque[int] = deque(maxlen=len(tag))

    def add(self, token: int) -> bool:
        """Add one token; return whether it completes the tag."""
        self.n_tokens += 1
        self._tail.append(token)
        return tuple(self._tail) == self.tag

    def completes(self, token: int) -> bool:
        """Return whether the text would end in the tag with this token."""
        return (*self._tail, token)[-len(self.tag) :] == self.tag

    def n_begun(self) -> int:
        """Return how many tokens of an unfinished tag stand at the end of the text."""
        tail = tuple(self._tail)
        return max(n for n in range(len(self.tag)) if tail[len(tail) - n :] == self.tag[:n])


class _Watch(Controller):
    def __init__(self, rule: ThoughtAware, tag: tuple[int, ...]) -> None:
        self.rule, self.text, self.has_closed = rule, TagMatcher(tag), False

    def on_token(self, token: int, probability: float) -> Action:
        """Act when the tag is complete for the first time."""
        if not self.text.add(token) or self.has_closed:
            return Action((token,))
        self.has_closed = True
        if self.rule.mode == "compress-think-only":
            return Action((token,), hold=True)
        stop = self.text.n_tokens - len(self.text.tag) - self.rule.last
        return Action((token,), drop=(0, stop) if stop > 0 else None)
