"""`preset: model`: the numbers of the models' own files, or a refusal by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from designspace.errors import DeclarationError
from sweeps.expand import Cell, expand
from sweeps.model_settings import SETTINGS
from sweeps.plan import plan
from sweeps.spec import Sweep, parse_sweep
from sweeps.study import parse_study
from tests.cluster.tiny import write_model
from tests.sweeps.studies import study_text

SWEEP = """\
schema: 1
study: own
models: [{models}]
tasks: [{{name: chain-arithmetic, split: dev, problems: 2}}]
mechanisms: [full]
generation: {{preset: model, max_new_tokens: 8, rows: 2}}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder, 0)
    return folder


def sweep(whole: Path, folder: Path, *files: dict[str, Any] | None, **changed: str) -> Sweep:
    """Return a sweep of one model for each file; changed: parts of its text."""
    return parse_sweep(text(whole, folder, *files, **changed))


def text(whole: Path, folder: Path, *files: dict[str, Any] | None, **changed: str) -> str:
    """Return the text of such a sweep."""
    models = []
    for number, content in enumerate(files):
        copy = folder / str(number)
        copy.mkdir(exist_ok=True)
        for file in whole.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        path = copy / "generation_config.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))
        models.append(f"{{name: m{number}, path: {copy}}}")
    found = SWEEP.format(models=", ".join(models))
    for old, new in changed.items():
        assert f"{old}: " in found
        found = re.sub(rf"^{old}: .*$", f"{old}: {new}", found, flags=re.MULTILINE)
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95}, (0.6, 0.95, 0)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0}, (0.7, 0.8, 20)),
        ({"do_sample": True}, (1.0, 1.0, 0)),
        ({"temperature": 0.6, "eos_token_id": 2}, (0.0, 1.0, 0)),
        ({"do_sample": True, "min_p": 0.05, "repetition_penalty": 1.1}, (1.0, 1.0, 0, 0.05, 1.1)),
        ({"min_p": 0.05, "repetition_penalty": 1.1, "top_k": "hot"}, (0.0, 1.0, 0, 0.0, 1.1)),
    ],
)
def test_the_numbers_of_the_file(
    whole: Path, tmp_path: Path, content: dict[str, Any], expected: tuple[float, ...]
) -> None:
    """They stand in the record; a file that does not ask for drawing means greedy decoding, as in transformers."""
    found = sweep(whole, tmp_path, content)
    generation, decoding = found.generation, found.mechanisms[0].decoding

    assert expected == tuple(getattr(generation, name) for name in SETTINGS)[: len(expected)]
    assert decoding is not None
    assert decoding.repetition_penalty == generation.repetition_penalty
    assert decoding.kind == "greedy" or decoding.identity().get("min_p", 0.0) == generation.min_p
    assert decoding.kind == ("sampling" if expected[0] else "greedy")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [{"do_sample": True, "typical_p": 0.9}],
            r"asks for typical_p=0.9, which is not implemented",
        ),
        ([{"num_beams": 4, "no_repeat_ngram_size": 3}], r"asks for no_repeat_ngram_size=3, num_beams=4, which"),
        ([None], "there is no .*generation_config.json: write temperature"),
        ([{"do_sample": True, "temperature": "hot"}], "temperature in the .* must be a number, got 'hot'"),
        (
            [{"do_sample": True, "min_p": 0.1}, {"do_sample": True, "min_p": 1.5}],
            r"generation\.min_p: must be at most 1, got 1.5 \(with the settings of model 'm1'\)",
        ),
        ([{"do_sample": True, "top_k": 1.5}], r"generation\.top_k: must be an integer, got 1.5"),
        ([{"do_sample": True, "temperature": 0.6, "top_p": 1.5}], r"generation\.top_p: must be at most 1, got 1.5"),
    ],
)
def test_what_is_refused(whole: Path, tmp_path: Path, files: list[dict[str, Any] | None], message: str) -> None:
    """Nothing of a file is passed over, and no model gets the numbers of another."""
    with pytest.raises(DeclarationError, match=message):
        sweep(whole, tmp_path, *files)


HOT, COLD = {"do_sample": True, "temperature": 0.9, "min_p": 0.05}, {"repetition_penalty": 1.2}
ALSO_HOT = HOT | {"eos_token_id": 2}
NUMBERS = "{{temperature: {}, min_p: {}, repetition_penalty: {}, max_new_tokens: 8, rows: 2}}"


def by_model(cells: tuple[Cell, ...], name: str) -> list[Cell]:
    """Return the cells of one model."""
    return [cell for cell in cells if cell.model.name == name]


def test_models_with_unlike_files_have_a_sweep_together(whole: Path, tmp_path: Path) -> None:
    """Each cell is the one that it would be if its model's numbers stood in the file, and a third model may agree."""
    arms = "[full, {name: hot, base: full, decoding: {kind: sampling, temperature: 2.0}}]"
    together = sweep(whole, tmp_path, HOT, COLD, ALSO_HOT, mechanisms=arms)
    found = expand(together)

    assert len(found) == 6
    for number, numbers in enumerate([(0.9, 0.05, 1.0), (0.0, 0.0, 1.2), (0.9, 0.05, 1.0)]):
        alone = expand(
            sweep(whole, tmp_path, HOT, COLD, ALSO_HOT, mechanisms=arms, generation=NUMBERS.format(*numbers))
        )
        assert [cell.cell_id for cell in by_model(alone, f"m{number}")] == [
            cell.cell_id for cell in by_model(found, f"m{number}")
        ]
        for cell in by_model(found, f"m{number}"):
            got = cell.generation
            assert numbers == (got.temperature, got.min_p, got.repetition_penalty)
    assert len({cell.cell_id for cell in found if cell.mechanism.name == "hot"}) == 3


def test_the_plan_says_what_each_model_has(whole: Path, tmp_path: Path) -> None:
    """Those settings in which they differ; what stands in the section counts before the file, and agrees."""
    notes = plan(sweep(whole, tmp_path, HOT, COLD)).notes

    assert "model m0: temperature 0.9, min_p 0.05, repetition_penalty 1, as its generation_config.json says" in notes
    assert "model m1: temperature 0, min_p 0, repetition_penalty 1.2, as its generation_config.json says" in notes
    written = sweep(
        whole, tmp_path, HOT, COLD, generation=NUMBERS.format(0.5, 0, 1.5).replace("{", "{preset: model, ", 1)
    )
    assert (0.5, ()) == (written.generation.temperature, written.own)


def test_what_a_grid_leaves_out_is_left_out_for_all(whole: Path, tmp_path: Path) -> None:
    """A budget that a combination cannot hold is none of the models' settings."""
    arms = "[full, {grid: {scoring: [h2o], cadence: [every-step, {kind: every-k, k: 128}]}, illegal: skip}]"
    found = sweep(whole, tmp_path, HOT, COLD, mechanisms=arms + "\nbudgets: [48]")

    assert [refusal.budget for refusal in found.refused] == ["48"]
    assert len(expand(found)) == 4


def test_a_section_without_content_is_refused(whole: Path, tmp_path: Path) -> None:
    """It is not the same as none at all."""
    with pytest.raises(DeclarationError, match="generation: must be a mapping, got"):
        sweep(whole, tmp_path, HOT, generation="")


def test_rows_auto_is_one_number_for_all(whole: Path, tmp_path: Path) -> None:
    """The penalty takes memory on one model only; all have the same number of rows, and their own settings."""
    auto = "{preset: model, max_new_tokens: 8, rows: auto, memory: 200MB}"
    found = expand(sweep(whole, tmp_path, HOT, COLD, generation=auto))

    assert len({cell.generation.rows for cell in found}) == 1
    assert [1.0, 1.2] == [cell.generation.repetition_penalty for cell in found]


def test_identities_of_arms_say_where_they_differ(whole: Path, tmp_path: Path) -> None:
    """A decoding that follows from the models' settings is marked, also within another; one of its own is not."""
    arms = "[full, {name: voted, base: full, decoding: self-consistency}, {name: hot, base: full, decoding: sampling}]"
    other = HOT | {"temperature": 0.4}
    found = sweep(whole, tmp_path, HOT, other, mechanisms=arms).arm_identities()
    plain = sweep(whole, tmp_path, HOT, HOT, mechanisms=arms)

    assert {"kind": "as generation says"} == found["full"]["decoding"]
    assert {"kind": "as generation says"} == found["voted"]["decoding"]["decoding"]
    assert ("self-consistency", 8) == (found["voted"]["decoding"]["kind"], found["voted"]["decoding"]["samples"])
    same = {arm.name: arm.identity() for arm in plain.mechanisms}
    assert same == plain.arm_identities()
    assert same["hot"] == found["hot"]


@pytest.mark.parametrize(
    ("mechanisms", "message"),
    [
        (
            "[{name: voted, base: full, decoding: self-consistency}]",
            r"must draw random numbers.*\(with the settings of model 'm1'\)",
        ),
        (
            "[full, {grid: {scoring: [full], decoding: [self-consistency, greedy]}, illegal: skip}]",
            "all models must have the same arms, got 'full/.*self-consistency.*' with the settings of one of 'm0' and 'm1'",
        ),
        (
            "[full, {name: cold, base: full, decoding: {kind: greedy, repetition_penalty: 1.2}}]",
            r"'cold' is the same composition as 'full' \(with the settings of model 'm1'\)",
        ),
    ],
)
def test_arms_that_one_model_cannot_have(whole: Path, tmp_path: Path, mechanisms: str, message: str) -> None:
    """Refused with the name of the model."""
    with pytest.raises(DeclarationError, match=message):
        sweep(whole, tmp_path, HOT, COLD, mechanisms=mechanisms)


def test_a_study_has_one_way_of_generating(whole: Path, tmp_path: Path) -> None:
    """It is registered once, for all its models."""
    found = json.loads(study_text())
    models = re.findall(r"path: ([^}]*)", text(whole, tmp_path, HOT, COLD))
    found["models"] = [{"name": f"m{number}", "path": path} for number, path in enumerate(models)]
    found["generation"] = {"preset": "model", "max_new_tokens": 8, "rows": 2}

    with pytest.raises(DeclarationError, match=r"generation\.preset: a study has one way .*, got m0: temperature 0\.9"):
        parse_study(json.dumps(found))
    found["models"] = found["models"][1:]
    assert parse_study(json.dumps(found)).sweep.generation.repetition_penalty == 1.2
