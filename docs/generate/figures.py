"""The pictures of what systems keep: where they are, and how their systems are declared."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from designspace.axes import Mechanism

REPOSITORY = Path(__file__).parents[2]
FIGURES = REPOSITORY / "docs/reference/retention"
SWEEPS = ("sweeps/catalogue.yaml", "sweeps/catalogue-prefill.yaml")


def cuts_prompt_alone(mechanism: Mechanism) -> bool:
    """Return whether a system never evicts a token of the trace."""
    return mechanism.cadence.compresses and not mechanism.cadence.cuts_while_decoding


def drawn_budget(mechanism: Mechanism) -> dict[str, Any]:
    """Return the budget of a system's picture; what cuts the prompt alone has no mean on a text of unknown length."""
    return {"tokens": 20, "of": "nominal"} if cuts_prompt_alone(mechanism) else {"tokens": 80}


@cache
def entries() -> dict[str, Any]:
    """Return how the shipped sweeps declare the systems that they have, by name."""
    yaml, found = YAML(typ="safe"), dict[str, Any]()
    for file in SWEEPS:
        declared = yaml.load((REPOSITORY / file).read_text(encoding="utf-8"))["mechanisms"]
        found |= {entry if isinstance(entry, str) else entry["name"]: entry for entry in declared}
    return found
