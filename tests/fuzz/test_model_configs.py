"""Damaged config.json files: one line that names the folder or the file, or a model of the shape that the file states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from designspace.errors import DesignspaceError
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec, forget_fingerprints
from designspace.models.skeleton import load_skeleton
from sweeps.sources import declared_geometry
from tests.cluster.tiny import write_model
from tests.fuzz.bounds import bounded
from tests.fuzz.damage import damaged, json_damaged

N_EXCERPT, N_ALL = 10, 400
MORE_BYTES = 4 * 2**30  # the model has some kilobytes; without a limit, a width with a digit too many takes the machine
NAMES = (
    *("model_type", "architectures", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings", "rope_parameters", "rope_scaling"),
    *("rope_theta", "layer_types", "sliding_window", "tie_word_embeddings", "eos_token_id", "hidden_act", "dtype"),
    *("quantization_config", "auto_map", "partial_rotary_factor", "attention_bias", "rms_norm_eps", "kv_owners"),
    *("text_config", "is_encoder_decoder", "attn_implementation", "_attn_implementation", "experts_implementation"),
)
VALUES = (
    *(
        "qwen2",
        "mistral",
        "gpt2",
        "mamba",
        "t5",
        "bert",
        "llama4",
        "qwen3_moe",
        "gemma3_text",
        "no-such-model",
        "relu",
        "silu",
    ),
    *(["LlamaForCausalLM"], ["T5Model"], {"rope_type": "yarn", "factor": 4.0}, {"rope_type": "dynamic", "factor": 2.0}),
    *(
        {"rope_type": "none"},
        {"rope_theta": 0, "rope_type": "default"},
        ["full_attention"],
        ["sliding_attention"] * 2,
        [2, 3],
    ),
    *(
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "x"},
        {"AutoConfig": "x.Y"},
        "float64",
        "bfloat16",
        4,
        8,
        32,
        513,
    ),
)


def _config_damaged(random: Random, content: bytes) -> bytes:
    return json_damaged(random, content, NAMES, VALUES)


def _faults(spec: ModelSpec, content: bytes) -> Iterator[str]:
    """Yield what is wrong with what is made of a damaged configuration."""
    assert spec.folder is not None
    (spec.folder / "config.json").write_bytes(content)
    forget_fingerprints()
    load_skeleton.cache_clear()
    for load in (declared_geometry, load_skeleton, _tried_out):
        try:
            with bounded(more_bytes=MORE_BYTES):
                found = load(spec)
        except DesignspaceError as error:
            if len(str(error).splitlines()) != 1 or not str(error).strip():
                yield f"not a line: {error}"
            if str(spec.folder) not in str(error) and not re.search("model type|kv_owners|layer", str(error)):
                yield f"neither file nor model: {error}"
            if "allocate" in str(error):
                yield f"took more than its memory: {error}"
        else:
            yield from _misread(found, content)


def _tried_out(spec: ModelSpec) -> LoadedModel:
    """Do what the command `check` does."""
    return load_model(spec, try_out=True)


def _misread(found: Any, content: bytes) -> Iterator[str]:
    """Yield what of a shape is not what stands in the file."""
    shape = getattr(found, "geometry", found)
    if shape is None:
        return
    data = json.loads(content)
    names = {
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_query_heads",
        "num_key_value_heads": "n_kv_heads",
    }
    for theirs, ours in names.items():
        if data.get(theirs) is not None and data[theirs] != getattr(shape, ours):
            yield f"{theirs}: {getattr(shape, ours)!r} for {data[theirs]!r}"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A tiny model of one's own."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(folder, 0)
    return ModelSpec("tiny", path=str(folder))


@pytest.fixture(scope="module")
def sound(spec: ModelSpec) -> bytes:
    """Its config.json."""
    assert spec.folder is not None
    return (spec.folder / "config.json").read_bytes()


@pytest.fixture(autouse=True)
def _own_proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESIGNSPACE_CACHE", str(tmp_path))


def check(seed: int, spec: ModelSpec, sound: bytes) -> None:
    """Damage the file and load the model."""
    random = Random(f"configurations {seed}")
    content = damaged(random, sound, [_config_damaged] * 4)
    faults = list(_faults(spec, content))
    assert faults == [], f"seed {seed}: {content!r:.3000}"


def test_the_sound_one_is_loaded(spec: ModelSpec, sound: bytes) -> None:
    """Else nothing would be tried but what is wrong with it."""
    assert list(_faults(spec, sound)) == []
    assert _tried_out(spec).geometry.n_layers == 2


@pytest.mark.parametrize("first", range(0, N_EXCERPT, 5))
def test_some_damaged_files(first: int, spec: ModelSpec, sound: bytes) -> None:
    """An excerpt, for every run of the suite."""
    for seed in range(first, first + 5):
        check(seed, spec, sound)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(N_EXCERPT, N_ALL, 10))
def test_many_damaged_files(first: int, spec: ModelSpec, sound: bytes) -> None:
    """The rest."""
    for seed in range(first, first + 10):
        check(seed, spec, sound)
