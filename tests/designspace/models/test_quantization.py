"""Weights that transformers quantises: tried out against transformers' own, counted in memory, named in identities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.preflight import check_models
from designspace.axes import Budget, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError, MissingExtra, ModelError
from designspace.memory.footprint import ArmMemory
from designspace.memory.live_bytes import LiveBytes
from designspace.models import quantization
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.proof import prove
from designspace.models.proven import kept_proof
from designspace.models.skeleton import copied_bytes, load_skeleton, skeleton_of, weight_bytes
from designspace.models.trial import Subject
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from sweeps.expand import expand
from sweeps.spec import parse_model, parse_sweep
from tests.cluster.tiny import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on the disk."""
    path = tmp_path_factory.mktemp("plain")
    write_model(path, 0)
    return path


@pytest.fixture
def needs_torchao() -> None:
    """Skip where nothing quantises."""
    pytest.importorskip("torchao", reason="torchao is not installed (designspace[quantized])")


@pytest.fixture(autouse=True)
def _own_proofs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Try every model out here, whatever was tried out before."""
    monkeypatch.setenv("DESIGNSPACE_CACHE", str(tmp_path / "cache"))


def spec(folder: Path, **changes: Any) -> ModelSpec:
    """Return the tiny model with quantised weights."""
    return replace(ModelSpec("tiny", path=str(folder), quantization="torchao-int8"), **changes)


def test_it_is_in_the_identity_and_its_absence_is_not(folder: Path) -> None:
    """So results of plain weights keep their ids."""
    plain = spec(folder, quantization=None).identity()

    assert "quantization" not in plain
    assert plain | {"quantization": "torchao-int8"} == spec(folder).identity()
    assert spec(folder) == parse_model(f"{{name: tiny, path: {folder}, quantization: torchao-int8}}")
    with pytest.raises(DeclarationError, match=r"quantization: must be 'torchao-int8', got 'torchao-int7'"):
        parse_model(f"{{name: tiny, path: {folder}, quantization: torchao-int7}}")
    with pytest.raises(ModelError, match=r"unknown quantization 'torchao-int' .*did you mean 'torchao-int8'"):
        spec(folder, quantization="torchao-int")


def test_a_missing_package_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of the weights is read."""
    monkeypatch.setitem(quantization.PACKAGES, "torchao-int8", "torchao")
    monkeypatch.setattr("designspace.errors.find_spec", lambda module: None)
    with pytest.raises(MissingExtra, match=r"needs torchao: pip install 'designspace\[quantized\]'"):
        load_model(spec(folder))


SWEEP = """\
schema: 1
study: packed
models: [{{name: tiny, path: {folder}, quantization: torchao-int8}}]
tasks: [{{name: chain-arithmetic, split: dev, problems: 2}}]
mechanisms: [full]
generation: {{temperature: 0.0, max_new_tokens: 8, rows: 2, step: compiled}}
"""


def test_a_run_says_beforehand_what_it_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, with its extra; planning does not need it."""
    cells = expand(parse_sweep(SWEEP.format(folder=folder)))
    monkeypatch.setattr("designspace.errors.find_spec", lambda module: None)
    (reason,) = check_models(cells)

    assert reason == "model 'tiny': this command needs torchao: pip install 'designspace[quantized]'"
    assert kept_proof(spec(folder), "cpu") is None


@pytest.mark.usefixtures("needs_torchao")
def test_a_run_says_beforehand_what_its_weights_cannot(folder: Path) -> None:
    """A compiled step is not tried out."""
    (reason,) = check_models(expand(parse_sweep(SWEEP.format(folder=folder))))

    assert reason == "model 'tiny': step 'compiled' is not offered for quantised weights: use 'plain'"


def test_what_is_quantised_already_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One quantisation over another would be neither."""
    monkeypatch.setattr(quantization, "require", lambda module: None)
    copy = tmp_path / "packed"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"'tiny' are quantised already, .* got quantization='torchao-int8'"):
        load_model(spec(copy))


def int8_by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Return the nearest of 255 even steps of each output's weights: what symmetric 8-bit integers stand for."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 127.5
    return (weight / scale).round().clamp(-128, 127) * scale


@pytest.mark.usefixtures("needs_torchao")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_quantised_model_is_tried_out_and_runs(folder: Path, dtype: Any) -> None:
    """Its weights are integers again afterwards; what is found of it is float32's; its tokens are transformers' own."""
    plain = load_model(spec(folder, quantization=None, dtype=dtype)).model
    loaded = load_model(spec(folder, dtype=dtype))
    packed = quantization.packed_layers(loaded.model)
    exact = plain.model.layers[1].mlp.up_proj.weight.float()
    found = quantization.unpacked(loaded.model.model.layers[1].mlp.up_proj.weight, torch.float32)

    assert len(packed) == 2 * 7
    assert not quantization.is_packed(loaded.model.get_output_embeddings().weight)
    assert 0 < float((found - exact).abs().max()) <= float(exact.abs().max()) / 127
    step = exact.abs().amax(dim=1, keepdim=True) / 127.5
    off = (found - int8_by_hand(exact)).abs() / step
    # A number between two steps may fall to either side, and in bfloat16 a scale is rounded.
    assert float(off.max()) < (1.001 if dtype == "float32" else 1.5)
    assert float(off.mean()) < (0.01 if dtype == "float32" else 0.3)
    weight = loaded.model.model.layers[1].mlp.up_proj.weight
    assert torch.equal(found, weight.qdata.float() * weight.scale.float())
    assert loaded.proof is not None
    assert loaded.proof.compared_in == "float32"
    assert loaded.proof.logits_error < 1e-4
    assert (loaded.dtype, loaded.geometry.n_layers) == (getattr(torch, dtype), 2)
    assert written(loaded) == by_transformers(loaded)
    assert not torch.equal(logits(loaded.model, [5, 6, 7]), logits(plain, [5, 6, 7]))


def written(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """Return greedy texts under slot attention."""
    full = replace(mechanism("full"), decoding=Greedy())
    free = replace(loaded, eos_ids=frozenset())
    engine = Engine(free, full, None, rows=2, max_new_tokens=12, max_prompt_tokens=8)
    asked = [Request(str(n), (5 + n, 6, 7, 8 + n), stream_key(7, str(n), 0)) for n in range(3)]
    made = {found.problem_id: found.token_ids for found in engine.generate(asked)}
    return [made[str(n)] for n in range(3)]


def by_transformers(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """Return the same of transformers' own attention, without a cache."""
    found = []
    for n in range(3):
        ids = [5 + n, 6, 7, 8 + n]
        for _ in range(12):
            ids.append(int(logits(loaded.model, ids).argmax()))
        found.append(tuple(ids[4:]))
    return found


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Return the last logits of a text under transformers' own attention."""
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    model.set_attn_implementation("designspace")
    return found


@pytest.mark.usefixtures("needs_torchao")
@pytest.mark.parametrize(
    ("dtype", "packed_only", "reason"),
    [
        ("bfloat16", False, r"differ from transformers' by .* in torch\.float32"),
        ("float32", True, r"under slot attention differ from those in float32 by"),
    ],
)
def test_a_quantised_model_that_is_not_what_it_seems_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, packed_only: bool, reason: str
) -> None:
    """Two percent more after the output projection of prompts, or of decode steps where it holds integers."""
    loaded = load_model(spec(folder, dtype=dtype))
    layer = loaded.model.model.layers[0].self_attn.o_proj
    forward = layer.forward

    def other(x: torch.Tensor) -> torch.Tensor:
        applies = quantization.is_packed(layer.weight) and x.shape[1] == 1 if packed_only else x.shape[1] > 1
        return forward(x * (1.02 if applies else 1.0))

    monkeypatch.setattr(layer, "forward", other)
    with pytest.raises(ModelError, match=reason):
        prove(Subject(loaded.model, loaded.geometry, None))
    assert len(quantization.packed_layers(loaded.model)) == 2 * 7


@pytest.mark.usefixtures("needs_torchao")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_is_that_of_the_integers(folder: Path, dtype: Any) -> None:
    """Predicted from the configuration alone, equal to what the loaded tensors hold; a layer's copy is in the workspace."""
    loaded = load_model(spec(folder, dtype=dtype))
    tensors = {id(x): x for x in (*loaded.model.parameters(), *loaded.model.buffers())}.values()
    real = 0
    for tensor in tensors:
        parts = [tensor.qdata, tensor.scale, tensor.zero_point] if quantization.is_packed(tensor) else [tensor]
        real += sum(part.nbytes for part in parts)

    assert weight_bytes(load_skeleton(spec(folder, dtype=dtype))) == weight_bytes(loaded) == real
    assert weight_bytes(skeleton_of(loaded)) == real < weight_bytes(load_skeleton(spec(folder, quantization=None)))
    largest = 32 * 32 * getattr(torch, dtype).itemsize
    assert copied_bytes(loaded) == largest
    memory = ArmMemory(loaded, mechanism("full"), None, max_new_tokens=8, max_prompt_tokens=8)
    plain = ArmMemory(
        load_skeleton(spec(folder, quantization=None, dtype=dtype)), mechanism("full"), None, max_new_tokens=8,
        max_prompt_tokens=8,
    )  # fmt: skip
    assert memory.at(4).workspace == plain.at(4).workspace + largest
    layer, x = loaded.model.model.layers[0].mlp.up_proj, torch.zeros(1, 32, dtype=loaded.dtype)
    with torch.inference_mode(), LiveBytes() as live:
        layer(x)
    assert live.peak <= largest + 2 * 1024


@pytest.mark.usefixtures("needs_torchao")
def test_mechanisms_that_read_weights_have_the_numbers(folder: Path) -> None:
    """The output projection that some scorings read is what the integers stand for; a compiled step is refused."""
    loaded = load_model(spec(folder))
    weight = loaded.model.model.layers[0].self_attn.o_proj.weight
    shown = loaded.output_projection()[0].flatten(0, 1).T

    assert torch.equal(shown, weight.dequantize())
    full = replace(mechanism("full"), decoding=Greedy())
    with pytest.raises(DeclarationError, match="'compiled' is not offered for quantised weights: use 'plain'"):
        Engine(loaded, full, None, rows=1, max_new_tokens=4, max_prompt_tokens=4, step="compiled")
    chosen = mechanism("critical-kv")
    free = replace(loaded, eos_ids=frozenset())
    engine = Engine(
        free, replace(chosen, decoding=Greedy()), Budget(64), rows=1, max_new_tokens=120, max_prompt_tokens=8
    )
    (text,) = engine.generate([Request("a", (5, 6, 7, 8), stream_key(7, "a", 0))])
    assert (text.n_new_tokens, text.n_evicted > 0) == (120, True)
