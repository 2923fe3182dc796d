"""`preset: model`: the numbers of the models' own files, or a refusal by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from designspace.errors import DeclarationError
from sweeps.spec import Sweep, parse_sweep
from tests.cluster.tiny import write_model

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


def sweep(whole: Path, folder: Path, *files: dict[str, Any] | None) -> Sweep:
    """Return a sweep of one model for each file."""
    models = []
    for number, content in enumerate(files):
        copy = folder / str(number)
        copy.mkdir()
        for file in whole.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        path = copy / "generation_config.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))
        models.append(f"{{name: m{number}, path: {copy}}}")
    return parse_sweep(SWEEP.format(models=", ".join(models)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95}, (0.6, 0.95, 0)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0}, (0.7, 0.8, 20)),
        ({"do_sample": True}, (1.0, 1.0, 0)),
        ({"temperature": 0.6, "eos_token_id": 2}, (0.0, 1.0, 0)),
    ],
)
def test_the_numbers_of_the_file(
    whole: Path, tmp_path: Path, content: dict[str, Any], expected: tuple[float, float, int]
) -> None:
    """They stand in the record; a file that does not ask for drawing means greedy decoding, as in transformers."""
    found = sweep(whole, tmp_path, content)
    generation, decoding = found.generation, found.mechanisms[0].decoding

    assert expected == (generation.temperature, generation.top_p, generation.top_k)
    assert decoding is not None
    assert decoding.kind == ("sampling" if expected[0] else "greedy")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [{"do_sample": True, "repetition_penalty": 1.1}],
            r"asks for repetition_penalty=1.1, which is not implemented",
        ),
        ([{"num_beams": 4, "min_p": 0.05}], r"asks for min_p=0.05, num_beams=4, which"),
        ([None], "there is no .*generation_config.json: write temperature"),
        ([{"do_sample": True, "temperature": "hot"}], "temperature in the .* must be a number, got 'hot'"),
        (
            [{"do_sample": True, "temperature": 0.6}, {"do_sample": True, "temperature": 0.7}],
            "m0: temperature 0.6, .*; m1",
        ),
        ([{"do_sample": True, "temperature": 0.6, "top_p": 1.5}], r"generation\.top_p: must be at most 1, got 1.5"),
    ],
)
def test_what_is_refused(whole: Path, tmp_path: Path, files: list[dict[str, Any] | None], message: str) -> None:
    """Nothing of a file is passed over, and no model gets the numbers of another."""
    with pytest.raises(DeclarationError, match=message):
        sweep(whole, tmp_path, *files)
