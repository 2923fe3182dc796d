"""One text that was generated, with the account of its cache."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from designspace.axes import Budget, Generation, Mechanism
from designspace.models.free_memory import bytes_text

_SHOWN = 60  # characters of a text


class NothingCompressed(UserWarning):
    """A mechanism that cuts the cache had nothing to cut: the texts are those of the full cache."""


class BudgetIgnored(UserWarning):
    """A budget was given to a mechanism whose cache does not follow from one."""


@dataclass(frozen=True, repr=False)
class GeneratedText:
    """A text, its tokens, and what its cache held; `str()` is the text.

    Attributes:
        text: without special tokens; empty where the model has no tokenizer.
        token_ids: the end-of-text token included.
        finish_reason: `stop` at an end-of-text token, `length` at the cap.
        mechanism: its name. budget: None where it takes none.
        ledger: the whole account of the cache (`Generation`).
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    mechanism: str
    budget: Budget | None
    ledger: Generation

    @property
    def mean_cache_tokens(self) -> float:
        """Tokens attended per layer and KV head, averaged over the decode steps."""
        return self.ledger.mean_cache_tokens

    @property
    def mean_cache_bytes(self) -> float:
        """Bytes held over all layers, averaged over the decode steps."""
        return self.ledger.mean_cache_bytes

    @property
    def n_events(self) -> int:
        """How often the cache was cut."""
        return self.ledger.n_events

    @property
    def prompt_survival(self) -> float | None:
        """The share of the prompt that one head held at the end of the text, averaged over the heads."""
        return self.ledger.prompt_survival_mean

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def __repr__(self) -> str:
        """Return the beginning of the text, and the account in words."""
        shown = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return f"GeneratedText({shown!r}, {account_words(self.ledger)})"


def account_words(ledger: Generation) -> str:
    """Return a text's cache in words."""
    events = f"{ledger.n_events} event{'s'[: ledger.n_events != 1]}"
    held = f"{ledger.mean_cache_tokens:.1f} tokens and {bytes_text(int(ledger.mean_cache_bytes))} held on average"
    return (
        f"{ledger.n_new_tokens} tokens to its {_ENDS.get(ledger.finish_reason, ledger.finish_reason)}, {held}, {events}"
    )


_ENDS = {"stop": "end", "length": "cap"}


def warn_of_budget(mechanism: Mechanism, budget: Budget | None) -> None:
    """Say so where a budget changes nothing."""
    if budget is not None and not mechanism.cadence.compresses:
        warnings.warn(
            f"mechanism {mechanism.name!r} never cuts the cache, so budget {budget} changes nothing", BudgetIgnored, 4
        )


def warn_of_no_event(mechanism: Mechanism, budget: Budget | None, ledgers: Sequence[Generation]) -> None:
    """Say so where the cache was never cut although the mechanism would."""
    if not ledgers or not mechanism.cadence.compresses or any(ledger.n_events for ledger in ledgers):
        return
    longest = max(ledger.n_prompt_tokens + ledger.n_new_tokens for ledger in ledgers)
    at = "" if budget is None else f" at budget {budget}"
    warnings.warn(
        f"mechanism {mechanism.name!r}{at} cut nothing: the longest text has {longest} tokens, so all are what the full cache"
        " writes",
        NothingCompressed,
        3,
    )
