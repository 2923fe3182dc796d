"""Budget forcing: the model is made to think longer, or to stop thinking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, MinLen

from designspace.axes import Action, Controller, TextCodec
from designspace.errors import DeclarationError
from families.decoding.thought_aware import TagMatcher
from families.decoding.wrapped_decoding import Wrapping


@dataclass(frozen=True)
class BudgetForcing(Wrapping):
    """Prolong the thinking by withholding its closing tag, or end it by writing the tag [muennighoff2025s1].

    If the model closes its thinking, "Wait" is written instead of the tag, at most `waits` times. At the maximum
    length, the tag is written in the place of the model's token. The length is the number of tokens generated before
    the tag, including tokens written for the model; it never exceeds the maximum. Forced tokens are fed and charged
    like any others. Of a tag of several tokens, only the last one can be withheld; the ones before it stay in the text,
    but their slots are freed. A model that ends its text without the tag is not held back, unless `tag` names the
    end-of-text token.

    Attributes:
        waits: number of times that the tag is withheld; 1 by default, 0 for never.
        min_thinking: length in tokens below which the tag is withheld; None (the default): at any length, as in the
            original.
        max_thinking: length in tokens at which the tag and `answer_cue` are written; 32000 by default, None for no
            maximum.
        tag: text that closes the thinking.
        wait: text that is written instead of the tag.
        answer_cue: text that is written after a forced tag; by default that of the released code, a line break and
            "Final Answer:". It may be empty.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "budget-forcing"
    citation: ClassVar[str | None] = "muennighoff2025s1"

    waits: Annotated[int, Ge(0)] = 1
    min_thinking: Annotated[int, Ge(0)] | None = None
    max_thinking: Annotated[int, Ge(0)] | None = 32000
    tag: Annotated[str, MinLen(1)] = "</think>"
    wait: Annotated[str, MinLen(1)] = "Wait"
    answer_cue: str = "\nFinal Answer:"

    def __post_init__(self) -> None:
        """Check the order of the two lengths."""
        super().__post_init__()
        if self.min_thinking is not None and self.max_thinking is not None and self.min_thinking > self.max_thinking:
            raise DeclarationError(
                f"min_thinking must be at most max_thinking, got min_thinking={self.min_thinking}, "
                f"max_thinking={self.max_thinking}"
            )

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a controller that watches the thinking, or None if nothing is forced."""
        return None if self.waits == 0 and self.max_thinking is None else _Forcing(self, text)


class _Forcing(Controller):
    def __init__(self, rule: BudgetForcing, text: TextCodec) -> None:
        self.rule, self.text = rule, TagMatcher(text.token_ids(rule.tag))
        self.wait = text.token_ids(rule.wait) if rule.waits else ()
        self.answer_cue = text.token_ids(rule.answer_cue) if rule.answer_cue else ()
        self.n_waits, self.has_closed = 0, False

    def on_token(self, token: int, probability: float) -> Action:
        """Accept the token, unless it closes the thinking too early or comes too late."""
        if self.has_closed:
            return Action((token,))
        if self.text.completes(token):
            return self._on_tag(token)
        if self.rule.max_thinking is not None and self.text.n_tokens >= self.rule.max_thinking:
            self.has_closed = True
            return Action((*self.text.tag[self.text.n_begun() :], *self.answer_cue))
        return self._write((token,))

    def _on_tag(self, token: int) -> Action:
        """Withhold the tag or let it close the thinking."""
        begun = self.text.n_tokens - (len(self.text.tag) - 1)  # where the tag began: the length of the thinking so far
        if not self._waits_at(begun):
            self.has_closed = True
            return Action((token,))
        self.n_waits += 1
        drop = (begun, self.text.n_tokens) if begun < self.text.n_tokens else None
        return self._write(self.wait, drop)

    def _waits_at(self, length: int) -> bool:
        rule = self.rule
        is_short = rule.min_thinking is None or length < rule.min_thinking
        has_room = rule.max_thinking is None or self.text.n_tokens + len(self.wait) <= rule.max_thinking
        return self.n_waits < rule.waits and is_short and has_room

    def _write(self, tokens: tuple[int, ...], drop: tuple[int, int] | None = None) -> Action:
        for token in tokens:
            self.text.add(token)
        return Action(tokens, drop=drop)
