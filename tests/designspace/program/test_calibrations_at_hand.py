"""What a mechanism needs measured is found, or measured with a word about it, or asked for."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from designspace.errors import CalibrationError
from designspace.models.calibration import artefact_path
from designspace.program.calibrations import CalibrationMade
from designspace.program.compression import compress
from designspace.program.generate import generate
from designspace.program.load import load
from tests.cluster.tiny import write_model

TEXT = "Solve Problem : 1 and 2 so 3 then 4 add 5 " * 12
PROMPT = "Solve Problem : 1 and 2 so 3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in a folder, without calibrations."""
    write_model(tmp_path / "tiny", 0)
    return tmp_path / "tiny"


def test_it_is_measured_once_and_kept(folder: Path, tmp_path: Path) -> None:
    """Beside the model's files, with a word about it; then it is found without one, also by another process's load."""
    (tmp_path / "text.txt").write_text(TEXT)
    model = load(folder)
    assert model.spec is not None
    file = artefact_path(model.spec, "q-stats")
    with pytest.raises(CalibrationError, match=r"designspace calibrate .*; or pass calibrate_on=FILE"):
        generate(model, PROMPT, "triattention", 8, max_new_tokens=12)
    with pytest.warns(
        CalibrationMade, match=r"'q-stats' was measured on 144 tokens of text.txt, and is kept at .*tiny"
    ):
        first = generate(model, PROMPT, "triattention", 8, max_new_tokens=12, calibrate_on=tmp_path / "text.txt")

    made = file.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = generate(load(folder), PROMPT, "triattention", 8, max_new_tokens=12, calibrate_on=["another text"])
    assert again.token_ids == first.token_ids
    assert file.read_bytes() == made
    assert first.n_events > 0


def test_a_model_in_memory_keeps_it_in_memory(folder: Path) -> None:
    """The same numbers as of its files; nothing is written."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hf_model = AutoModelForCausalLM.from_pretrained(folder)
    model = load(AutoModelForCausalLM.from_pretrained(folder), tokenizer)
    with pytest.raises(CalibrationError, match="a model in memory comes without: pass calibrate_on"):
        generate(model, PROMPT, "triattention", 8)
    with pytest.warns(CalibrationMade, match="144 tokens of 1 texts, and is kept with the model in memory"):
        text = generate(model, PROMPT, "triattention", 8, max_new_tokens=12, calibrate_on=[TEXT])
    with (
        pytest.warns(CalibrationMade),
        compress(hf_model, "triattention", 8, tokenizer=tokenizer, calibrate_on=[TEXT]) as compressed,
    ):
        hf_model.generate(**tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False), max_new_tokens=12)

    assert compressed.ledger[0].token_ids == text.token_ids
    assert generate(model, PROMPT, "triattention", 8, max_new_tokens=12).token_ids == text.token_ids
    assert not (folder / "calibration").exists()


@pytest.mark.parametrize(
    ("calibrate_on", "message"),
    [
        ("nowhere.txt", "calibration text not found: nowhere.txt"),
        ([], "0 texts: got 0 tokens, needs at least 128"),
        (["1 and 2"], "1 texts: got 3 tokens, needs at least 128"),
    ],
)
def test_nothing_to_measure_on_is_named(calibrate_on: str | list[str], message: str, folder: Path) -> None:
    """What was got."""
    with pytest.raises(CalibrationError, match=message):
        generate(load(folder), PROMPT, "triattention", 8, calibrate_on=calibrate_on)
