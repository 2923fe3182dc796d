"""Checkpoints of trained retention gates, in the release's form, become the artefact that `trim-kv` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from designspace.axes import Budget, Geometry, Request
from designspace.axes.randomness import stream_key
from designspace.cli.app import app
from designspace.engine import Engine
from designspace.errors import CalibrationError
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.calibrations.imported_retention_gate import imported_retention_gate
from families.decoding.greedy import Greedy
from tests.cluster.tiny import write_model

GEOMETRY = Geometry(2, 4, 2, 8, torch.ones(4))
HIDDEN = 20


def checkpoint(n_read: int, *, gated: bool = False, layers: int = 2, width: int = 6) -> dict[str, Tensor]:
    """Return a state dict with the names and shapes of the release."""
    random = torch.Generator().manual_seed(7)
    shapes: dict[str, tuple[int, ...]] = {"bias": (2,)}
    if gated:
        shapes |= {
            "gate_proj.weight": (width, n_read),
            "up_proj.weight": (width, n_read),
            "down_proj.weight": (2, width),
        }
    else:
        shapes |= {"linear1.weight": (width, n_read), "linear1.bias": (width,), "linear2.weight": (2, width)}
    return {
        f"model.layers.{layer}.self_attn.retention_gate.{name}": torch.randn(shape, generator=random)
        for layer in range(layers)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("n_read", "gated", "reads"), [
    (HIDDEN, False, "inputs"), (32, False, "keys-values"), (32, True, "keys-values"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_forms(tmp_path: Path, n_read: int, gated: bool, reads: str, suffix: str) -> None:
    """What the gate reads follows from how much it reads; types become float32."""
    made = {name: tensor.bfloat16() for name, tensor in checkpoint(n_read, gated=gated).items()}
    file = tmp_path / f"trimkv_weights{suffix}"
    torch.save(made, file) if suffix == ".pth" else save_file(made, file)
    found = imported_retention_gate(file, GEOMETRY, HIDDEN)
    assert len(found) == len(made) // 2
    for name, tensor in made.items():
        layer, own = int(name.split(".")[2]), name.split("retention_gate.")[1]
        assert found[f"{reads}.{own}"].dtype == torch.float32
        assert torch.equal(found[f"{reads}.{own}"][layer], tensor.float())


def test_the_configuration_decides_where_shapes_cannot(tmp_path: Path) -> None:
    """Where the layer's input is as wide as all keys and values together."""
    file = tmp_path / "trimkv_weights.pth"
    torch.save(checkpoint(32), file)
    with pytest.raises(CalibrationError, match="may read the layer's input or keys and values: put the checkpoint's"):
        imported_retention_gate(file, GEOMETRY, 32)
    for kind, reads in (("rg", "inputs"), ("rg2", "keys-values")):
        (tmp_path / "config.json").write_text(json.dumps({"retention_gate": kind, "hidden_act": "silu"}))
        assert set(imported_retention_gate(file, GEOMETRY, 32)) == {
            f"{reads}.{name}" for name in ("bias", "linear1.bias", "linear1.weight", "linear2.weight")
        }
    for said, reason in (
        ({"hidden_act": "gelu"}, "must have the activation 'silu', got hidden_act='gelu'"),
        ({"retention_gate": "rg9"}, "retention_gate must be one of rg, rg2, rg3, got 'rg9'"),
        ([], "must be a configuration"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(said))
        with pytest.raises(CalibrationError, match=reason):
            imported_retention_gate(file, GEOMETRY, 32)


def without(name: str) -> dict[str, Tensor]:
    """Return a checkpoint that lacks one tensor."""
    return {key: tensor for key, tensor in checkpoint(HIDDEN).items() if not key.endswith(name)}


PREFIX = "model.layers.1.self_attn.retention_gate."


@pytest.mark.parametrize(("made", "reason"), [
    ({}, "each layer must have bias, linear1.bias, "),
    (without("1.self_attn.retention_gate.bias"), "each layer must have bias"),
    (checkpoint(HIDDEN, layers=3), r"the model has 2 layers, got model.layers.2"),
    (checkpoint(HIDDEN) | {"model.layers.0.mlp.weight": torch.ones(2)}, "must hold .* retention gates alone, got .*mlp"),
    (checkpoint(19), r"layer 0: linear1.weight must have shape \(6, 20\), got \(6, 19\)"),
    (checkpoint(HIDDEN) | {f"{PREFIX}bias": torch.ones(3)}, r"layer 1: bias must have shape \(2,\), got \(3,\)"),
    (checkpoint(HIDDEN) | {f"{PREFIX}bias": torch.tensor([1, torch.nan])}, "numbers must be finite"),
    (checkpoint(HIDDEN) | {f"{PREFIX}bias": torch.tensor(1.0)}, "weights must be vectors and matrices, got .*bias"),
    ({"a": 3}, "must hold tensors by name"),
])  # fmt: skip
def test_what_is_no_gate_of_the_model_is_refused(tmp_path: Path, made: Any, reason: str) -> None:
    """In one line that names the file."""
    file = tmp_path / "trimkv_weights.pth"
    torch.save(made, file)
    with pytest.raises(CalibrationError, match=f"trimkv_weights.pth: {reason}"):
        imported_retention_gate(file, GEOMETRY, HIDDEN)


def test_damaged_files_and_code_are_refused(tmp_path: Path) -> None:
    """Nothing in a pickle is run but what makes tensors."""
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(CalibrationError, match=f"{name}: cannot be read: "):
            imported_retention_gate(tmp_path / name, GEOMETRY, HIDDEN)
    torch.save({"a": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(CalibrationError, match="cannot be read"):
        imported_retention_gate(tmp_path / "code.pth", GEOMETRY, HIDDEN)


def test_the_command_makes_an_artefact_that_runs(tmp_path: Path) -> None:
    """Bound to the model, and read by the system of the catalogue; other artefacts cannot be taken from such a file."""
    write_model(tmp_path / "model", seed=0)
    spec = ModelSpec("model", path=str(tmp_path / "model"))
    loaded = load_model(spec)
    file = tmp_path / "trimkv_weights.pth"
    torch.save(checkpoint(loaded.model.config.hidden_size, layers=loaded.geometry.n_layers), file)
    (tmp_path / "config.json").write_text('{"retention_gate": "rg"}')
    command = ["calibrate", str(tmp_path / "model"), "trim-gate", "--weights", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = load_artefact(spec, "trim-gate")
    assert found.source == "trimkv_weights.pth"
    system = mechanism("trim-kv").override("trim-kv", decoding=Greedy())
    engine = Engine(
        loaded, system, Budget(12), rows=1, max_new_tokens=20, max_prompt_tokens=8, artefacts={"trim-gate": found}
    )
    (generation,) = engine.generate([Request("a", (5, 6, 7), stream_key(0, "a", 0))])
    assert len(generation.token_ids) == 20
    for changed in ([*command[:2], "q-stats", *command[3:]], [*command[:2], *command[3:]]):
        refused = CliRunner().invoke(app, changed)
        assert refused.exit_code == 2
        assert (
            "--weights makes one artefact of dms-gate, fast-kvzip, kvzap, trim-gate, which must"
            in refused.output + str(refused.exception)
        )
