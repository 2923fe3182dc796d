"""Model specifications, fingerprints, calibration artefacts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from designspace.axes import Artefact
from designspace.axes.artefact import centres
from designspace.errors import CalibrationError, ModelError
from designspace.models.calibration import Corpus, artefact_hash, artefact_path, load_artefact, model_key, save_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec, bundled_names, folder_fingerprint
from designspace.models.pocket_language import language_of
from designspace.models.query_statistics import measure
from tests.conftest import toy_model

N_BYTES_BUNDLED = 18_000_000
BUNDLED = ["pocket-llama", "pocket-llama-cla", "pocket-qwen2", "trace-llama", "trace-qwen2"]


@pytest.fixture
def saved(tmp_path: Path) -> ModelSpec:
    """A toy model in a folder."""
    toy_model("llama").model.save_pretrained(tmp_path / "toy")
    return ModelSpec("toy", path=str(tmp_path / "toy"))


def test_pocket_models_ship_within_their_size() -> None:
    """One of each family and task, and one with shared layers, safetensors only, within a limit, with a model card."""
    assert bundled_names() == BUNDLED
    folders = [Path(str(ModelSpec.bundled(name).path)) for name in bundled_names()]
    assert sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file()) < N_BYTES_BUNDLED
    for folder in folders:
        assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
        assert "Licence" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_are_calibrated(name: str) -> None:
    """The shipped statistics were made for the shipped weights."""
    spec = ModelSpec.bundled(name)
    statistics = load_artefact(spec)

    assert statistics.made_for == model_key(spec)
    assert statistics.n_tokens > 1000
    mean, modulus = centres(statistics)
    concentration = mean.abs() / modulus
    assert bool((concentration <= 1 + 1e-5).all())


def test_the_fingerprint_follows_the_content(saved: ModelSpec, tmp_path: Path) -> None:
    """A copy elsewhere is the same model; one changed weight is another."""
    shutil.copytree(str(saved.path), tmp_path / "copy")
    copy = ModelSpec("other-name", path=str(tmp_path / "copy"))
    assert copy.identity() == saved.identity()

    file = next((tmp_path / "copy").glob("*.safetensors"))
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, file, {"format": "pt"})
    folder_fingerprint.cache_clear()
    assert copy.identity() != saved.identity()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """A folder with only a pickle is no model."""
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")

    with pytest.raises(ModelError, match=r"config\.json and \*\.safetensors are needed"):
        ModelSpec("p", path=str(tmp_path)).fingerprint()
    with pytest.raises(ModelError, match=r"config\.json: Unrecognized model"):
        load_model(ModelSpec("p", path=str(tmp_path)))


def test_contradictory_sources_are_refused() -> None:
    """Hub and path together, or a revision without a hub."""
    with pytest.raises(ModelError, match="one of hub, path, gguf, got hub and path"):
        ModelSpec("m", hub="a/b", path="c")
    with pytest.raises(ModelError, match="revision needs hub"):
        ModelSpec("m", path="c", revision="main")


def corpus(ids: list[int]) -> Corpus:
    """One text."""
    return Corpus((tuple(ids),), (), "test")


def naive_statistics(loaded: LoadedModel, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and mean modulus of the first layer's pre-RoPE query bands, straight from the projection."""
    layer = loaded.model.model.layers[0]
    hidden = layer.input_layernorm(loaded.model.model.embed_tokens(torch.tensor([ids])))
    query = layer.self_attn.q_proj(hidden)[0].view(len(ids), loaded.geometry.n_query_heads, -1)
    half = query.shape[-1] // 2
    bands = torch.complex(query[..., :half].contiguous(), query[..., half:].contiguous())
    return bands.mean(dim=0), bands.abs().mean(dim=0)


def test_query_statistics_are_those_of_the_projection(toy_llama: LoadedModel) -> None:
    """Un-rotated post-RoPE queries have the mean of the projected queries."""
    ids = list(range(2, 60))
    found_mean, found_modulus = centres(Artefact("q-stats", measure(toy_llama, corpus(ids))))
    mean, modulus = naive_statistics(toy_llama, ids)

    assert (found_mean[0] - mean).abs().max() < 1e-5
    assert (found_modulus[0] - modulus).abs().max() < 1e-5


def test_artefacts_are_tied_to_their_model(saved: ModelSpec, toy_llama: LoadedModel) -> None:
    """Round trip; missing and foreign artefacts are refused with the command that makes the right one."""
    remedy = f"make it with: designspace calibrate {saved.path} q-stats"
    assert artefact_hash(saved) is None
    with pytest.raises(CalibrationError, match=remedy):
        load_artefact(saved)

    made = Artefact("q-stats", measure(toy_llama, corpus([2, 3, 4])), made_for=model_key(saved))
    save_artefact(artefact_path(saved), made)
    assert torch.equal(load_artefact(saved)["q_abs_mean"], made["q_abs_mean"])
    assert load_artefact(saved).sha256 == artefact_hash(saved)
    artefact_path(saved).rename(artefact_path(saved, "other"))
    with pytest.raises(CalibrationError, match="holds artefact 'q-stats', not 'other'"):
        load_artefact(saved, "other")

    save_artefact(artefact_path(saved), replace(made, made_for="f" * 64))
    with pytest.raises(CalibrationError, match=f"was made for another model .* {remedy}"):
        load_artefact(saved)
    artefact_path(saved).write_bytes(b"garbage")
    with pytest.raises(CalibrationError, match="is no calibration artefact"):
        load_artefact(saved)


def test_partial_rotary_is_refused() -> None:
    """Query statistics pair the whole head dimension."""
    loaded = toy_model("phi3", partial_rotary_factor=0.5)
    with pytest.raises(CalibrationError, match="rotates 8"):
        measure(loaded, corpus([2, 3]))


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_tokenizers_round_trip(name: str) -> None:
    """Every word of the language is one token, and decoding gives the words back with their spaces."""
    loaded = load_model(ModelSpec.bundled(name))
    language = language_of(loaded.tokenizer.get_vocab())
    assert language is not None
    problem = language.problems("dev", 1)[0]
    ids = loaded.encode(f"{problem.prompt} {problem.solution}")

    assert len(ids) == len(problem.prompt.split()) + len(problem.solution.split())
    assert loaded.decode(loaded.encode(problem.solution)).split() == problem.solution.removesuffix(" <eos>").split()
    assert ids[-1] in loaded.eos_ids
