"""How numbers and labels are spelt, the same in the terminal and on the page."""

from __future__ import annotations

from designspace.report.summary import ArmSummary

MISSING = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage without its sign, e.g. `67.2`."""
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def interval(arm: ArmSummary, digits: int = 1) -> str:
    """Return an arm's 95 % interval in percent, e.g. `54.0–78.1`."""
    if arm.interval is None:
        return MISSING
    return f"{percent(arm.interval.low, digits)}–{percent(arm.interval.high, digits)}"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with grouped thousands, or a dash."""
    return MISSING if value is None else f"{value:,.{digits}f}"


def kibibytes(n_bytes: float) -> str:
    """Return bytes in KiB."""
    return f"{n_bytes / 1024:,.1f}"


def budget_heading(arm: ArmSummary) -> str:
    """Return the heading of an arm's group."""
    if arm.budget_tokens is None:
        return "no budget"
    return f"budget {arm.budget}" if arm.budget_of != "mean" else f"budget {arm.budget} mean"


def comparison(arm: ArmSummary) -> str:
    """Return in a word or two why an arm may not be compared; empty if it may."""
    words = {"matched": "", "unmatched": "unmatched", "reference": "reference"}[arm.comparison]
    if arm.budget_tokens is not None and arm.event_share == 0:
        return f"{words}, never cut".removeprefix(", ")
    return words


def comparable(arm: ArmSummary) -> str:
    """Return the same for a reader who has room for the reason: `yes`, or e.g. `no: unmatched (+25.0 %)`."""
    words = comparison(arm)
    if not words:
        return "yes"
    if arm.comparison == "reference":
        return words
    return f"no: {words.replace('unmatched', f'unmatched ({off_median(arm)})')}"


def off_median(arm: ArmSummary) -> str:
    """Return how far an arm's cache is from the median of its group, in percent with a sign, e.g. `+25.0 %`."""
    if not arm.reference_held:
        return MISSING
    return f"{100 * (arm.held / arm.reference_held - 1):+.1f} %"


def printable(text: str) -> str:
    """Return a label without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
