"""The table of event times: every strategy has its row, and ratios are taken against the right one."""

from __future__ import annotations

import re

import pytest

from benchmarks.event_time import Arm, Times, main, parse_geometry, table
from designspace.registry import kinds


def arm(name: str, *decide_s: float) -> Arm:
    """An arm that has been timed; moving always takes as long as deciding."""
    return Arm(name, None, None, None, [Times(s, 2 * s) for s in decide_s])  # type: ignore[arg-type]


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down for all arms changes the milliseconds, not the ratios."""
    reference, other = arm("top-k", 1.0, 0.001, 0.002, 0.004), arm("other", 1.0, 0.003, 0.006, 0.012)
    last = list(table("title", [reference, other], reference))[-1]

    assert last == "| `other` | 6.0 [4.5, 9.0] | 3.00 [3.00, 3.00] | 12.0 [9.0, 18.0] | 3.00 [3.00, 3.00] |"


def test_a_slow_arm_has_one_number() -> None:
    """Timed in the warm-up only, it is compared with the reference's warm-up."""
    reference, slow = arm("top-k", 0.002, 0.001, 0.001), arm("slow", 20.0)

    assert list(table("title", [slow], reference))[-1] == "| `slow` | 20000.0 | 10000.00 | 40000.0 | 10000.00 |"


def test_every_selector_and_scoring_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    """A strategy that is registered is in a table, or among those left out with the reason."""
    main(["--geometry", "1x2x2x8", "--rows", "2", "--budget", "48", "--interval", "16", "--repetitions", "1"])
    printed = capsys.readouterr().out
    named = set(re.findall(r"^\| `([\w-]+)", printed, flags=re.MULTILINE)) | set(re.findall(r"`([\w-]+)` \(", printed))

    assert named >= {*kinds("selector"), *kinds("scoring")} - {"full"}


def test_geometry_by_name_or_by_numbers() -> None:
    """Layers, KV heads, query heads per KV head, head dimension."""
    named, numbered = parse_geometry("pocket"), parse_geometry("3x2x2x32")

    assert (named.n_layers, named.n_kv_heads, named.n_query_heads, named.head_dim) == (3, 2, 4, 32)
    assert (numbered.n_layers, numbered.n_kv_heads, numbered.n_query_heads, numbered.head_dim) == (3, 2, 4, 32)
