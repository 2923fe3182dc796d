"""Refuses a class that still defines a contract method under its former name: nothing would call it any more."""

from __future__ import annotations

from collections.abc import Mapping

STRATEGY_METHODS = {
    "refusal": "unsupported_reason",
    "objection": "conflict_reason",
    "fold": "merge_evicted",
    "cue": "format_prompt",
    "completed": "with_default_chooser",
}
TRACKER_METHODS = {"settle": "on_compressed"}
SCHEDULE_METHODS = {"pacer": "row_schedule"}


def refuse_former_names(cls: type, renamed: Mapping[str, str]) -> None:
    """Check that a new subclass of a contract overrides methods by their present names.

    renamed: the former name of each method, and its present one. A former name is free on axes whose contract has no method
    of the present name, and in a class that defines both.

    Raises:
        TypeError: a method would have no effect.
    """
    for former, present in renamed.items():
        place, contract = _place(cls, former), _place(cls, present)
        if place is not None and contract is not None and place < contract:
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} defines {former}(), which is called {present}() now: rename it"
            )


def _place(cls: type, method: str) -> int | None:
    """Return the place in the method resolution order of the first class that defines a method, or None."""
    return next((i for i, base in enumerate(cls.__mro__) if callable(vars(base).get(method))), None)
