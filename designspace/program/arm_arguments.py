"""What a person passes as a mechanism and as a budget, as the core's own records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from designspace.axes import Budget, Decoding, Mechanism
from designspace.errors import DeclarationError, did_you_mean, missing_extra
from designspace.registry import mechanism as catalogue_mechanism
from designspace.registry import strategy

MechanismLike = str | Mapping[str, Any] | Mechanism
BudgetLike = int | Mapping[str, Any] | Budget
_AMOUNTS = ("tokens", "prompt", "trace", "bytes_per_token_full")


def decoding_at(temperature: float, top_p: float) -> Decoding:
    """Return what chooses tokens: greedy at temperature 0, else sampling.

    Raises:
        DeclarationError: a temperature below 0, or a mass that is none.
    """
    if not temperature >= 0:
        raise DeclarationError(f"temperature must be at least 0, got temperature={temperature!r}")
    if not 0 < top_p <= 1:
        raise DeclarationError(f"top_p must be above 0 and at most 1, got top_p={top_p!r}")
    if temperature == 0:
        return cast(Decoding, strategy("decoding", "greedy")())
    cls: Any = strategy("decoding", "sampling")
    return cast(Decoding, cls(temperature=float(temperature), top_p=float(top_p)))


def mechanism_of(given: MechanismLike, decoding: Decoding) -> Mechanism:
    """Return the mechanism that a catalogue name, an entry of a sweep's `mechanisms` or a `Mechanism` means.

    decoding: fills in where the mechanism leaves its decoding out.

    Raises:
        UnknownName: not in the catalogue; the message names the nearest.
        DeclarationError: a mapping with mistakes, all of which are named; or something else.
        MissingExtra: a mapping, and what checks the sweep file is not installed.
    """
    if isinstance(given, Mapping):
        return _declared(given, decoding)
    if isinstance(given, str):
        given = catalogue_mechanism(given)
    if not isinstance(given, Mechanism):
        raise DeclarationError(
            f"a mechanism must be a catalogue name, a mapping or a Mechanism, got {type(given).__name__} {given!r:.80}"
        )
    own = given.decoding
    return replace(given, decoding=decoding if own is None else own.with_default_chooser(decoding))


def _declared(given: Mapping[str, Any], decoding: Decoding) -> Mechanism:
    try:
        from sweeps.mechanisms import build_mechanism
        from sweeps.problems import Problems
        from sweeps.yaml_document import Document
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    data = {"name": "mine", **given}
    problems = Problems(Document("", "", data, {}, {}))
    built = build_mechanism(data, ("mechanism",), decoding, problems)
    if built is None or problems:
        raise DeclarationError(text for _, text in problems.found)
    return built.mechanism


def budget_of(given: BudgetLike | None) -> Budget | None:
    """Return the budget that a number of tokens, a mapping as under a sweep's `budgets`, or a `Budget` means; None: none.

    Raises:
        DeclarationError: something else; the message names what was got, and the nearest field.
    """
    if given is None or isinstance(given, Budget):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Budget(given)
    if isinstance(given, Mapping):
        return _divided(given)
    raise DeclarationError(
        "a budget must be a number of tokens, a mapping such as {'prompt': 64, 'trace': 64}, or a Budget, got "
        f"{type(given).__name__} {given!r:.80}"
    )


def _divided(given: Mapping[str, Any]) -> Budget:
    known = (*_AMOUNTS, "of")
    for name, value in given.items():
        if name not in known:
            raise DeclarationError(f"a budget has no field {name!r}{did_you_mean(str(name), known)}")
        if name != "of" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise DeclarationError(f"{name} of a budget must be an integer of at least 1, got {value!r}")
    of = given.get("of", "mean")
    if of not in ("mean", "nominal", "peak"):
        raise DeclarationError(f"of must be 'mean', 'nominal' or 'peak', got {of!r}")
    amounts = {*given} - {"of"}
    if amounts == {"tokens"}:
        return Budget(given["tokens"], of)
    if amounts == {"prompt", "trace"}:
        return Budget(given["prompt"] + given["trace"], of, given["prompt"])
    if {*given} == {"bytes_per_token_full"}:
        return Budget(given["bytes_per_token_full"], "bytes")
    raise DeclarationError(
        f"a budget needs either tokens, or prompt and trace, or bytes_per_token_full alone, got {dict(given)!r}"
    )
