"""The sweeps that ship: each expands to exactly the cells in its golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweeps
from designspace.schedule import Budget
from sweeps.expand import expand
from sweeps.spec import load_sweep

SHIPPED = Path(sweeps.__file__).parent
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED.glob("*.yaml")))
def test_golden_expansion(name: str) -> None:
    """Names, budgets, order. A new sweep needs a golden file."""
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert expected == [cell.label() for cell in expand(load_sweep(SHIPPED / f"{name}.yaml"))]


def test_the_papers_grid() -> None:
    """Two models, two nominal budgets; α differs from its baseline in the selector and in nothing else."""
    sweep = load_sweep(SHIPPED / "paper.yaml")
    assert [model.hub for model in sweep.models] == [
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    ]
    assert sweep.budgets == (Budget(64, "nominal"), Budget(128, "nominal"))
    baseline, alpha = (mechanism.identity() for mechanism in sweep.mechanisms[1:3])
    selectors = baseline["scoring"].pop("selector"), alpha["scoring"].pop("selector")
    assert baseline == alpha
    assert (selectors[0]["kind"], selectors[1]["kind"], selectors[1]["weight"]) == ("top-k", "diversity", 0.5)
    assert {mechanism.cadence.kind for mechanism in sweep.mechanisms[1:]} == {"hysteresis"}
    assert (sweep.generation.max_total_tokens, sweep.generation.top_p) == (8192, 0.95)
