"""How numbers and labels are spelt, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from designspace.report.summary import ArmSummary
from designspace.statistics import Interval

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


def place_heading(arms: Sequence[ArmSummary]) -> str:
    """Return the heading of the arms of one place, with the number of problems where that is one."""
    model, task, split = arms[0].place
    sizes = {arm.n_problems for arm in arms}
    n = sizes.pop()
    problems = "" if sizes else f" · {n:,} problem{'s' if n != 1 else ''}"
    return f"{model} · {task}/{split}{problems}"


def budget_heading(arm: ArmSummary) -> str:
    """Return the heading of an arm's group."""
    if arm.budget_tokens is None:
        return "no budget"
    return f"budget {arm.budget}" if arm.budget_of != "mean" else f"budget {arm.budget} mean"


def comparison(arm: ArmSummary) -> str:
    """Return in a word or two why an arm may not be compared; empty if it may."""
    words = [] if arm.comparison == "matched" else [str(arm.comparison)]
    if arm.budget_tokens is not None and arm.event_share == 0:
        words.append("never cut")
    if arm.identical_to is not None:
        words.append(f"identical texts to {arm.identical_to}")
    return ", ".join(words)


def comparable(arm: ArmSummary) -> str:
    """Return the same for a reader who has room for the reason: `yes`, or e.g. `no: unmatched (+25.0 %)`."""
    words = comparison(arm)
    if not words:
        return "yes"
    if arm.comparison == "reference":
        return words
    if words.startswith("identical"):
        return f"yes, {words}"
    why = "no budget" if arm.budget_tokens is None else off_median(arm)
    return f"no: {words.replace('unmatched', f'unmatched ({why})')}"


def off_median(arm: ArmSummary) -> str:
    """Return how far an arm's cache is from the median of its group, in percent with a sign, e.g. `+25.0 %`."""
    if not arm.reference_held:
        return MISSING
    return f"{100 * (arm.held / arm.reference_held - 1):+.1f} %"


FIDELITY = (
    "Teacher-forced arms: each is fed a text, token by token, and writes none, so there is no accuracy. Loss over full: "
    "log-probability of the text under the full cache less that under the arm, in nats per token. Agreement: tokens that are "
    "the arm's first choice, in percent; whole: texts of which every token is; first: median place of the first token that is "
    "not. Intervals cover 95 % and resample problems."
)


def between(interval: Interval, digits: int, scale: float = 1.0) -> str:
    """Return an interval, e.g. `0.012–0.020`."""
    return f"{scale * interval.low:.{digits}f}–{scale * interval.high:.{digits}f}"


def printable(text: str) -> str:
    """Return a label without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
