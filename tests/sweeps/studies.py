"""A builder of small studies, as text that is JSON and so YAML too."""

from __future__ import annotations

import json
from typing import Any

from sweeps.study import Study, parse_study
from tests.sweeps.conftest import declaration

HELDOUT = {"name": "chain-arithmetic", "split": "confirm", "problems": 5}


def protocol(**changes: Any) -> dict[str, Any]:
    """Return a small valid protocol as data, with fields replaced; None removes one."""
    fields = {
        "heldout": [HELDOUT],
        "replicates": 2,
        "contrasts": [{"id": "c", "arm": "arm", "baseline": "base"}],
        "smallest_effect": 0.1,
        "tuning": {"sampler": "grid"},
        "test": {"name": "sign_flip"},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def tuned(**axes: Any) -> dict[str, Any]:
    """Return the arm of the small study: SnapKV with axes replaced."""
    return {"name": "arm", "base": "snapkv-window-8", **axes}


def weight(placeholder: dict[str, Any]) -> dict[str, Any]:
    """Return the arm with a diversity selector whose weight is tuned."""
    return tuned(scoring={"kind": "snapkv", "selector": {"kind": "diversity", "weight": {"tune": placeholder}}})


def study_text(
    arm: dict[str, Any] | None = None,
    protocol_changes: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Return the text of a small study; `base` replaces axes of the baseline."""
    arm = arm if arm is not None else weight({"choices": [0.5, 1.0, 1.5]})
    baseline = {"name": "base", "base": "snapkv-window-8", **(base or {})}
    sections = declaration(mechanisms=[baseline, arm], **changes)
    return json.dumps({**sections, "protocol": protocol(**(protocol_changes or {}))})


def study_of(
    arm: dict[str, Any] | None = None, protocol_changes: dict[str, Any] | None = None, **changes: Any
) -> Study:
    """Return a small study: a baseline against an arm, whose diversity weight is tuned."""
    return parse_study(study_text(arm, protocol_changes, **changes))
