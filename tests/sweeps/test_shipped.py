"""The sweeps that ship: each expands to exactly the cells in its golden file. The studies that ship: each loads."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweeps
from designspace.axes import Budget
from sweeps.expand import expand
from sweeps.space import grid
from sweeps.spec import load_sweep
from sweeps.study import load_study
from sweeps.yaml_document import read_document

SHIPPED = Path(sweeps.__file__).parent
GOLDEN = Path(__file__).parent / "golden"
STUDIES = sorted(file.stem for file in SHIPPED.glob("*.yaml") if "protocol" in read_document(file).data)
SWEEPS = sorted({file.stem for file in SHIPPED.glob("*.yaml")} - set(STUDIES))


@pytest.mark.parametrize("name", SWEEPS)
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


def test_there_are_studies() -> None:
    """A file with a protocol is one."""
    assert STUDIES == ["alpha-study", "rejected-seven"]


@pytest.mark.parametrize("name", STUDIES)
def test_studies_load_whatever_is_selected(name: str) -> None:
    """Every point of their grids makes a sweep, and nothing is shared between development and held-out problems."""
    study = load_study(SHIPPED / f"{name}.yaml")
    assert all(expand(study.sweep_for(values)) for values in grid(study.space))
    assert study.overlaps() == []
    assert study.source_text.startswith("#")


def test_the_alpha_study_follows_the_paper() -> None:
    """Three weights, two models, two budgets, ties to the smaller weight; the arms differ in the selector alone."""
    study = load_study(SHIPPED / "alpha-study.yaml")
    weight = "alpha.scoring.selector.weight"
    assert [values[weight] for values in grid(study.space)] == [0.5, 1.0, 1.5]
    assert study.protocol.tuning is not None
    assert (study.protocol.tuning.ties_within, study.protocol.tuning.prefer) == (0.005, "smaller")
    assert (study.sweep.seeds.count, study.protocol.replicates, len(study.hypotheses())) == (1, 3, 4)
    baseline, alpha = (mechanism.identity() for mechanism in study.sweep.mechanisms)
    assert baseline["scoring"].pop("selector") != alpha["scoring"].pop("selector")
    assert baseline == alpha


def test_the_rejected_mechanisms_have_one_baseline() -> None:
    """Seven numbers, ten sub-attempts, each against the same arm; only the low-rank one is compared in bytes."""
    study = load_study(SHIPPED / "rejected-seven.yaml")
    contrasts = study.protocol.contrasts
    assert sorted({contrast.id[0] for contrast in contrasts}) == list("1234567")
    assert ({contrast.baseline for contrast in contrasts}, len(contrasts)) == ({"baseline"}, 10)
    assert len({contrast.arm for contrast in contrasts}) == 10
    readings = {contrast.arm: {budget.of for _, budget in study.cells(contrast)} for contrast in contrasts}
    assert readings.pop("subspace") == {"bytes"}
    assert set(map(frozenset, readings.values())) == {frozenset({"mean"})}
