"""Checkpoints of trained networks, in the forms of their releases, become the artefacts that scorings read.

No published checkpoint was at hand: the files are made here with the names and shapes of the released modules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from designspace.axes import Arrival, Artefact, Geometry, Request
from designspace.cli.app import app
from designspace.engine import Engine
from designspace.errors import CalibrationError, ModelError
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model, prepare
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.calibrations.imported_dms import imported_dms
from families.calibrations.imported_fast_kvzip import imported_fast_kvzip
from families.calibrations.imported_kvzap import imported_kvzap
from families.decoding.greedy import Greedy
from families.scoring.dms import Keeping
from families.scoring.kvzap import Surrogate
from tests.cluster.tiny import write_model
from tests.conftest import toy_model

GEOMETRY = Geometry(2, 4, 2, 8, torch.ones(4))
HIDDEN = 20


def drawn(shapes: dict[str, tuple[int, ...]], pattern: str, layers: int = 2) -> dict[str, Tensor]:
    """Return random weights of every layer; pattern: of their names, with places for the layer and the weight."""
    random = torch.Generator().manual_seed(7)
    return {
        pattern.format(layer, name): torch.randn(shape, generator=random)
        for layer in range(layers)
        for name, shape in shapes.items()
    }


def kvzap(*, width: int | None = None, hidden: int = HIDDEN, layers: int = 2) -> dict[str, Tensor]:
    """Return a checkpoint as kvpress saves its module."""
    shapes: dict[str, tuple[int, ...]] = {"weight": (2, hidden), "bias": (2,)}
    if width is not None:
        shapes = {"0.weight": (width, hidden), "0.bias": (width,), "2.weight": (2, width), "2.bias": (2,)}
    return drawn(shapes, "layers.{}.{}", layers)


def sinks(*, group: int = 2, hidden: int = HIDDEN) -> dict[str, Tensor]:
    """Return the state dicts of Fast KVzip's gates, with sinks of width 3."""
    shapes = {
        "q_proj.weight": (2 * group * 3, hidden), "q_proj.bias": (2 * group * 3,), "k_proj.weight": (6, hidden),
        "q_norm.weight": (3,), "k_norm.weight": (3,), "k_base": (2, 1, 5, 3), "b": (2, 1, group),
    }  # fmt: skip
    return drawn(shapes, "{}.{}")


def saved(tmp_path: Path, made: dict[str, Tensor], said: Any = None) -> Path:
    """Save a checkpoint, and a configuration beside it."""
    save_file({name: tensor.contiguous() for name, tensor in made.items()}, tmp_path / "model.safetensors")
    if said is not None:
        (tmp_path / "config.json").write_text(json.dumps(said))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("width", [None, 6])
def test_kvzap(tmp_path: Path, width: int | None) -> None:
    """Against the release's modules themselves, built from torch's layers."""
    made = {name: tensor.bfloat16() for name, tensor in kvzap(width=width).items()}
    found = imported_kvzap(saved(tmp_path, made, {"model_type": "kvzap"}), GEOMETRY, HIDDEN)
    inputs = torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(1))
    for layer in range(2):
        module: Any = torch.nn.Linear(HIDDEN, 2)
        if width is not None:
            module = torch.nn.Sequential(torch.nn.Linear(HIDDEN, width), torch.nn.GELU(), torch.nn.Linear(width, 2))
        prefix = f"layers.{layer}."
        module.load_state_dict({n.removeprefix(prefix): t.float() for n, t in made.items() if n.startswith(prefix)})
        keys = torch.zeros(1, 2, 3, 8)
        said = Surrogate().open(Artefact("kvzap", found), Arrival(layer, inputs, keys, keys))
        torch.testing.assert_close(said, module(inputs).transpose(1, 2).detach())


def test_fast_kvzip(tmp_path: Path) -> None:
    """Weights by their own names, of each layer."""
    made = sinks()
    found = imported_fast_kvzip(saved(tmp_path, made), GEOMETRY, HIDDEN)
    assert len(found) == 7
    for name, tensor in made.items():
        layer, own = name.split(".", 1)
        assert torch.equal(found[own][int(layer)], tensor)


ALPHA = "model.layers.{}.self_attn.{}"


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("per", ["head", "layer"])
def test_dms(tmp_path: Path, per: str, *, with_bias: bool) -> None:
    """The release's decision from the residual stream is ours from what the projections read."""
    loaded = toy_model("qwen3")
    hidden, heads, layers = loaded.model.config.hidden_size, loaded.geometry.n_kv_heads, loaded.geometry.n_layers
    shapes: dict[str, tuple[int, ...]] = {
        "dms_proj_alpha.weight": (heads, hidden), "dms_proj_alpha_norm.weight": (hidden,)
    }  # fmt: skip
    made = drawn(shapes | ({"dms_proj_alpha.bias": (heads,)} if with_bias else {}), ALPHA, layers)
    random = torch.Generator().manual_seed(5)
    for layer in loaded.model.model.layers:
        layer.input_layernorm.weight.data = 0.5 + torch.rand(hidden, generator=random)
    said = {"dms_alpha_scale": 10.0, "dms_initial_alpha_offset": 2.0, "dms_alpha_per": per}
    artefact = Artefact("dms-gate", imported_dms(saved(tmp_path, made, said), loaded))
    x = torch.randn(1, 4, hidden, generator=random) * 3
    for number, layer in enumerate(loaded.model.model.layers):
        own = {name: made[ALPHA.format(number, name)] for name in shapes}
        normed = torch.nn.functional.rms_norm(
            x, (hidden,), own["dms_proj_alpha_norm.weight"], loaded.model.config.rms_norm_eps
        )
        alpha = normed @ own["dms_proj_alpha.weight"].T
        if with_bias:
            alpha = alpha + made[ALPHA.format(number, "dms_proj_alpha.bias")]
        logits = (alpha * 10.0 - 2.0).transpose(1, 2)
        wanted = logits if per == "head" else logits[:, :1].expand_as(logits)
        keys = torch.zeros(1, heads, 4, 2)
        found = Keeping().open(artefact, Arrival(number, layer.input_layernorm(x), keys, keys))
        torch.testing.assert_close(-found, wanted, atol=1e-3, rtol=1e-4)


def test_dms_asks_for_a_norm_that_it_can_divide_by(tmp_path: Path) -> None:
    """No weight of 0, and no norm of another kind."""
    loaded = toy_model("qwen3")
    hidden, heads = loaded.model.config.hidden_size, loaded.geometry.n_kv_heads
    file = saved(
        tmp_path, drawn({"dms_proj_alpha.weight": (heads, hidden), "dms_proj_alpha_norm.weight": (hidden,)}, ALPHA)
    )
    loaded.model.model.layers[1].input_layernorm.weight.data[0] = 0.0
    with pytest.raises(CalibrationError, match="layer 1: the norm before attention must be a root mean square with"):
        imported_dms(file, loaded)
    gemma = toy_model("gemma2")
    file = saved(
        tmp_path,
        drawn(
            {"dms_proj_alpha.weight": (gemma.geometry.n_kv_heads, gemma.model.config.hidden_size),
             "dms_proj_alpha_norm.weight": (gemma.model.config.hidden_size,)}, ALPHA, gemma.geometry.n_layers,
        ),
    )  # fmt: skip
    with pytest.raises(CalibrationError, match="layer 0: the norm before attention must be a root mean square with"):
        imported_dms(file, gemma)


def test_decisions_within_queries_are_refused() -> None:
    """Such a model loads as any other, but its attention would be wrong."""
    from transformers import AutoConfig, AutoModelForCausalLM

    def model(**said: object) -> Any:
        config = AutoConfig.for_model(
            "qwen3", vocab_size=97, hidden_size=24, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, **said,
        )  # fmt: skip
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)

    with pytest.raises(ModelError, match=r"retrofitted by DMS keeps decisions .*, got dms_cr, dms_window_size"):
        prepare(model(dms_cr=8, dms_window_size=512))
    prepare(model(dms_cr=8, dms_separate_alpha=True))


@pytest.mark.parametrize(("made", "reason"), [
    ({}, "layer 0 must have bias, weight, got none"),
    (kvzap() | {"layers.1.extra": torch.ones(2)}, "layer 1 must have bias, weight, got bias, extra, weight"),
    (kvzap(layers=3), r"the model has 2 layers, got layers.2"),
    (kvzap() | {"lm_head.weight": torch.ones(2)}, "must hold the weights of the networks alone, got lm_head.weight"),
    (kvzap(hidden=19), r"layer 0: weight must have shape \(2, 20\), got \(2, 19\)"),
    (kvzap(width=6) | {"layers.1.0.bias": torch.ones(7)}, r"layer 1: 0.bias must have shape \(6,\), got \(7,\)"),
    (kvzap() | {"layers.1.bias": torch.tensor([1, torch.nan])}, "numbers must be finite: layers.1.bias"),
])  # fmt: skip
def test_what_is_no_network_of_the_model_is_refused(tmp_path: Path, made: dict[str, Tensor], reason: str) -> None:
    """In one line that names the file."""
    with pytest.raises(CalibrationError, match=f"model.safetensors: {reason}"):
        imported_kvzap(saved(tmp_path, made), GEOMETRY, HIDDEN)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Pickles are not opened, whatever is in them; nor another model's gates, nor a configuration of something else."""
    (tmp_path / "q2_dim16_sink16.pt").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CalibrationError, match="must be a safetensors file: pickles are not read"):
        imported_fast_kvzip(tmp_path / "q2_dim16_sink16.pt", GEOMETRY, HIDDEN)
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(CalibrationError, match=r"model.safetensors: cannot be read: "):
        imported_kvzap(tmp_path / "model.safetensors", GEOMETRY, HIDDEN)
    with pytest.raises(CalibrationError, match=r"layer 0: q_proj.weight must have shape \(12, 20\), got \(24, 20\)"):
        imported_fast_kvzip(saved(tmp_path, sinks(group=4)), GEOMETRY, HIDDEN)
    with pytest.raises(CalibrationError, match=r"layer 0 must have sinks k_base \[2,1,S,d\]"):
        imported_fast_kvzip(saved(tmp_path, drawn({"b": (2, 1, 2)}, "{}.{}")), GEOMETRY, HIDDEN)
    with pytest.raises(CalibrationError, match=r"config.json: model_type must be 'kvzap', got 'qwen3'"):
        imported_kvzap(saved(tmp_path, kvzap(), {"model_type": "qwen3"}), GEOMETRY, HIDDEN)
    with pytest.raises(CalibrationError, match=r"config.json: must be a configuration"):
        imported_kvzap(saved(tmp_path, kvzap(), []), GEOMETRY, HIDDEN)


@pytest.mark.parametrize("name", ["kvzap", "dms-gate", "fast-kvzip"])
def test_the_command_makes_an_artefact_that_runs(tmp_path: Path, name: str) -> None:
    """Bound to the model, and read by the system of the catalogue."""
    write_model(tmp_path / "model", seed=0)
    spec = ModelSpec("model", path=str(tmp_path / "model"))
    loaded = load_model(spec)
    hidden, layers, group = loaded.model.config.hidden_size, loaded.geometry.n_layers, loaded.geometry.group
    assert loaded.geometry.n_kv_heads == 2
    made = {
        "kvzap": kvzap(hidden=hidden, layers=layers),
        "dms-gate": drawn(
            {"dms_proj_alpha.weight": (2, hidden), "dms_proj_alpha_norm.weight": (hidden,)}, ALPHA, layers
        ),
        "fast-kvzip": sinks(group=group, hidden=hidden),
    }[name]
    file = saved(tmp_path, made)
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path / "model"), name, "--weights", str(file)])
    assert result.exit_code == 0, result.output
    found = load_artefact(spec, name)
    assert found.source == "model.safetensors"
    system = mechanism({"dms-gate": "dms", "fast-kvzip": "fast-kvzip-threshold"}.get(name, name))
    system = system.override(name, decoding=Greedy())
    engine = Engine(loaded, system, None, rows=1, max_new_tokens=8, max_prompt_tokens=8, artefacts={name: found})
    (generation,) = engine.generate([Request("a", (5, 6, 7), b"k")])
    assert generation.token_ids
