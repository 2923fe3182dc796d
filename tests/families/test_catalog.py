"""Named systems have the settings of their releases, and say where they have others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from designspace.axes import Budget, Scoring, WindowShare
from designspace.errors import InfeasibleBudget
from designspace.registry import catalog, mechanism

HALF = WindowShare(0.5)
WINDOWS: dict[str, Any] = {
    "h2o": HALF, "vatp": HALF, "caote": HALF, "d2o": HALF, "minikv": HALF,
    "mmr": HALF, "facility-location": HALF, "dpp": HALF, "k-center": HALF, "k-center-weighted": HALF,
    "squeeze": WindowShare(0.175), "scope": WindowShare(0.1), "morph-kv": 32,
    "kvzap": 128, "dms": 512, "fast-kvzip": WindowShare(0.03125), "fast-kvzip-threshold": 128,
    "snapkv": 32, "snapkv-prefill": 32, "ada-kv": 32, "critical-kv": 32,
    "r-kv": 8, "r-kv-equal": 8, "skip-kv": 8,
    "pyramid-kv": 8, "headkv": 8, "dynamic-kv": 8, "scissorhands": 10, "scissorhands-rate": 10,
    "lazy-eviction": 27, "streaming-llm": 0, "cam": 0, "triattention": 0, "alpha": 0, "lag-kv": 0,
}  # fmt: skip
OTHER_WINDOWS = {
    "snapkv-window-8": 8,
    "tova": 1,
    "knorm": 8,
    "keydiff": 8,
    "expected-attention": 8,
}


@pytest.mark.parametrize(("name", "window"), [*WINDOWS.items(), *OTHER_WINDOWS.items()])
def test_windows(name: str, window: int | WindowShare) -> None:
    """A number of tokens, or a share of the budget; what is not the release's is among the choices."""
    system = mechanism(name)

    assert system.scoring.recent == window
    if name in OTHER_WINDOWS:
        assert any("recent" in choice or "window" in choice for choice in system.choices)


OPTIONS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("r-kv", lambda scoring: scoring.lam, 0.1),
    ("r-kv-equal", lambda scoring: scoring.lam, 0.5),
    ("k-center", lambda scoring: scoring.selector.weigh, False),
    ("k-center-weighted", lambda scoring: scoring.selector.weigh, True),
    ("scissorhands", lambda scoring: scoring.normalise, "count"),
    ("scissorhands-rate", lambda scoring: scoring.normalise, "rate"),
    ("lazy-eviction", lambda scoring: (scoring.threshold, scoring.h2_mode), (5e-4, "released")),
    ("lazy-eviction-small-cache", lambda scoring: (scoring.threshold, scoring.h2_mode), (0.02, "released")),
    ("vatp", lambda scoring: scoring.sinks, 20),
    ("d2o", lambda scoring: scoring.sinks, 4),
    ("morph-kv", lambda scoring: scoring.fuse, "sum"),
    ("vase", lambda scoring: (scoring.large, scoring.sinks, scoring.kernel), (0.25, 4, 5)),
    ("g-kv", lambda scoring: (scoring.lam, scoring.alpha, scoring.smooth, scoring.kernel), (0.5, 0.8, "max", 1)),
    ("skip-kv", lambda scoring: (scoring.lam, scoring.alike, len(scoring.ends), scoring.kernel), (0.1, 0.95, 7, 7)),
    ("rpc", lambda scoring: (scoring.recent, scoring.kernel, scoring.pool, scoring.heads), (32, 7, "avg", "all")),
    ("random-attention", lambda scoring: (scoring.draw, scoring.protect), ("per-event", "prompt")),
    ("prefix-sliding", lambda scoring: (scoring.sinks, scoring.protect), (0, "prompt")),
]


@pytest.mark.parametrize(("name", "option", "value"), OPTIONS)
def test_options(name: str, option: Callable[[Scoring], Any], value: Any) -> None:
    """Of each pair, the plain name has what is released."""
    assert option(mechanism(name).scoring) == value


@pytest.mark.parametrize("tokens", [48, 96, 160, 1024])
def test_every_system_fits_usual_budgets(tokens: int) -> None:
    """Protection leaves something to rank at mean budgets; what has no mean is asked for a nominal one."""
    for system in catalog().values():
        if system.budget_applies:
            reading = "mean" if system.cadence.bounded else "nominal"
            try:
                size = system.bind(Budget(tokens, reading)).low  # type: ignore[arg-type]
            except InfeasibleBudget:
                continue  # the cadence has no such size, whatever is protected
            assert system.scoring.n_protected(size) < size
