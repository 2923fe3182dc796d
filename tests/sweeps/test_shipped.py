"""The sweeps that ship: each expands to exactly the cells in its golden file. The studies that ship: each loads."""

from __future__ import annotations

import re
import shutil
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
REAL = sorted(file.stem for file in SHIPPED.glob("real-*.yaml") if file.stem not in STUDIES)
SWEEPS = sorted({file.stem for file in SHIPPED.glob("*.yaml")} - {*STUDIES, *REAL})


@pytest.mark.parametrize("name", SWEEPS)
def test_golden_expansion(name: str) -> None:
    """Names, budgets, order. A new sweep needs a golden file."""
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert expected == [cell.label() for cell in expand(load_sweep(SHIPPED / f"{name}.yaml"))]


@pytest.mark.parametrize("name", REAL)
def test_golden_expansion_of_the_sweeps_on_real_models(name: str, tmp_path: Path) -> None:
    """As above, with a bundled model in the place of the one that make brings, and sums in that of its data."""
    text, models = re.subn(
        r"\{.*path: \.\./build/models/.*\}", "pocket-llama", (SHIPPED / f"{name}.yaml").read_text("utf-8")
    )
    assert models == 1
    folder, data = tmp_path / "sweeps", tmp_path / "build/data"
    folder.mkdir()
    data.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (data / "gsm8k-test.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n' * 1319, encoding="utf-8")
    shutil.copy(SHIPPED / "real-smoke.jsonl", folder)
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert expected == [cell.label() for cell in expand(load_sweep(folder / f"{name}.yaml"))]


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


def test_the_alpha_study_has_both_scopes_and_both_protections() -> None:
    """Four contrasts on two models at two budgets; the arms of each differ in the selector alone, with the paper's weight."""
    study = load_study(SHIPPED / "alpha-study.yaml")
    assert study.protocol.tuning is None
    assert (study.protocol.replicates, len(study.hypotheses())) == (2, 16)
    arms = {mechanism.name: mechanism.identity() for mechanism in study.sweep.mechanisms}
    seen = set()
    for contrast in study.protocol.contrasts:
        alpha, baseline = arms[contrast.arm], arms[contrast.baseline]
        chosen = alpha["scoring"].pop("selector")
        assert ("diversity", 0.5, alpha["scoring"]["scope"]) == (chosen["kind"], chosen["weight"], chosen["scope"])
        assert "top-k" == baseline["scoring"].pop("selector")["kind"]
        assert alpha == baseline
        seen.add((alpha["scoring"]["scope"], alpha["scoring"].get("protect", "none")))
    assert {(scope, protect) for scope in ("global", "layer-head") for protect in ("none", "prompt")} == seen


def test_the_rejected_mechanisms_have_one_baseline() -> None:
    """Seven numbers, ten sub-attempts, with the prompt evictable and kept; only the low-rank one is compared in bytes."""
    study = load_study(SHIPPED / "rejected-seven.yaml")
    contrasts = study.protocol.contrasts
    assert sorted({contrast.id[0] for contrast in contrasts}) == list("1234567")
    assert 20 == len(contrasts) == len({contrast.arm for contrast in contrasts})
    for contrast in contrasts:
        assert contrast.baseline == ("baseline-kept" if contrast.arm.endswith("-kept") else "baseline")
    readings = {contrast.arm: {budget.of for _, budget in study.cells(contrast)} for contrast in contrasts}
    assert readings.pop("subspace") == readings.pop("subspace-kept") == {"bytes"}
    assert set(map(frozenset, readings.values())) == {frozenset({"mean"})}
