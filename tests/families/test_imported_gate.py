"""Head scores from a file become the gates that decide which heads look far back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from designspace.axes import Geometry
from designspace.cli.app import app
from designspace.errors import CalibrationError
from designspace.models.calibration import load_artefact
from designspace.models.model_spec import ModelSpec
from families.calibrations.imported_gate import imported_gate
from tests.cluster.tiny import write_model

GEOMETRY = Geometry(2, 4, 2, 8, torch.ones(4))


def test_the_published_form_and_its_like(tmp_path: Path) -> None:
    """Tabs, commas or blanks; lines are layers, columns KV heads."""
    for n, text in enumerate(("0.5\t1.0\n0\t0.25\n", "0.5, 1\n0, .25\n\n", "5e-1 1\n0 0.25")):
        file = tmp_path / f"{n}.tsv"
        file.write_text(text)
        assert imported_gate(file, GEOMETRY)["gate"].tolist() == [[0.5, 1.0], [0.0, 0.25]]


def test_rlkv_s_published_form(tmp_path: Path) -> None:
    """Tabs, 18 digits, trained gates a little below 0 and above 1: as they are, since only their order counts."""
    file = tmp_path / "adapter_weights.tsv"
    rows = ["2.773437500000000000e-01\t-4.760742187500000000e-03", "1.007812500000000000e+00\t6.093750000000000000e-01"]
    file.write_text("\n".join(rows) + "\n")
    assert imported_gate(file, GEOMETRY)["gate"].tolist() == [[0.27734375, -0.0047607421875], [1.0078125, 0.609375]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2\n", r"scores.tsv: must have a line for each of 2 layers, got 1"),
        ("1 2\n1 2 3\n", r"scores.tsv:2: must have a number for each of 2 KV heads, got 3"),
        ("1 2\n1 x\n", r"scores.tsv:2: must hold numbers alone: .*'x'"),
        ("1 nan\n1 2\n", r"scores.tsv:1: numbers must be finite"),
        (b"\xff\xfe", r"scores.tsv: cannot be read: "),
    ],
)
def test_what_is_no_table_of_heads_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    """With the line at fault."""
    file = tmp_path / "scores.tsv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CalibrationError, match=reason):
        imported_gate(file, GEOMETRY)
    with pytest.raises(CalibrationError, match="cannot be read"):
        imported_gate(tmp_path / "absent.tsv", GEOMETRY)


def test_the_command_makes_the_artefact_of_a_model(tmp_path: Path) -> None:
    """Bound to the model like one that was measured; another artefact cannot be taken from such a file."""
    write_model(tmp_path / "model", seed=0)
    file = tmp_path / "gates.tsv"
    file.write_text("0.1 0.9\n0.8 0.2\n")
    command = ["calibrate", str(tmp_path / "model"), "--head-scores", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = load_artefact(ModelSpec("model", path=str(tmp_path / "model")), "duo-gate")
    torch.testing.assert_close(found["gate"], torch.tensor([[0.1, 0.9], [0.8, 0.2]]))
    assert found.source == "gates.tsv"
    refused = CliRunner().invoke(app, [*command[:2], "q-stats", *command[2:]])
    assert refused.exit_code == 2
    assert "--head-scores makes the artefact duo-gate alone, got q-stats" in str(refused.output) + str(
        refused.exception
    )
