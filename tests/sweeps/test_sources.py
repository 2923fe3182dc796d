"""The shape of a local model, as transformers reads its configuration; what it cannot read is no shape, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import designspace.models
from cluster.preflight import geometry_of
from designspace.errors import ModelError
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from sweeps.sources import declared_geometry

POCKET = Path(designspace.models.__file__).parent / "pocket"


def spec_of(folder: Path, config: Any) -> ModelSpec:
    """Write a configuration and return the model that it belongs to."""
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return ModelSpec("mine", path=str(folder))


@pytest.mark.parametrize("name", ["pocket-llama", "pocket-llama-cla", "trace-qwen2"])
def test_the_shape_is_that_of_the_model(name: str) -> None:
    """All but the frequencies themselves."""
    spec = ModelSpec(name, path=str(POCKET / name))
    declared, real = declared_geometry(spec), load_skeleton(spec).geometry

    assert declared is not None
    assert (declared.n_layers, declared.n_query_heads, declared.n_kv_heads, declared.head_dim) == (
        real.n_layers,
        real.n_query_heads,
        real.n_kv_heads,
        real.head_dim,
    )
    assert torch.equal(declared.inv_freq, torch.zeros_like(real.inv_freq))


def test_what_a_configuration_leaves_out_is_transformers_default(tmp_path: Path) -> None:
    """As the model would be loaded: Phi-3 with a rotation of half of each head, and as many KV heads as query heads."""
    config = {"model_type": "phi3", "hidden_size": 128, "num_attention_heads": 4, "partial_rotary_factor": 0.5}
    found = declared_geometry(spec_of(tmp_path, config | {"num_key_value_heads": None}))

    assert found is not None
    assert (found.n_layers, found.n_query_heads, found.n_kv_heads, found.head_dim) == (32, 4, 4, 32)
    assert found.inv_freq.shape == (8,)


def test_a_configuration_that_changes_is_read_again(tmp_path: Path) -> None:
    """What was read before is not kept for ever."""
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    before = declared_geometry(spec_of(tmp_path, config))
    after = declared_geometry(spec_of(tmp_path, config | {"num_hidden_layers": 3}))

    assert before is not None
    assert after is not None
    assert (before.n_layers, after.n_layers) == (2, 3)


@pytest.mark.parametrize(
    "config",
    [
        "no JSON",
        [],
        {},
        {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64},
        {"model_type": "no-such-type"},
        {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}},
        {"model_type": "llama", "num_attention_heads": "four"},
        {"model_type": "llama", "num_attention_heads": 0},
        {"model_type": "llama", "hidden_size": 100, "num_attention_heads": 3},
        {"model_type": "mamba"},
    ],
    ids=str,
)
def test_what_is_no_decoder_has_no_shape(tmp_path: Path, config: Any) -> None:
    """The preflight says so in one line; code of the folder is never run."""
    spec = spec_of(tmp_path, config)

    assert declared_geometry(spec) is None
    with pytest.raises(ModelError, match="is not that of a decoder with attention heads") as caught:
        geometry_of(spec)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_has_no_shape(tmp_path: Path) -> None:
    """Nor does a model of the hub."""
    assert declared_geometry(ModelSpec("none", path=str(tmp_path))) is None
    assert declared_geometry(ModelSpec("hub", hub="org/model")) is None


def test_a_wrong_value_is_named_in_one_line(tmp_path: Path) -> None:
    """Where a shape is needed at once."""
    spec = spec_of(tmp_path, {"model_type": "llama", "num_attention_heads": "four"})
    with pytest.raises(ModelError, match=r"num_attention_heads.*expected int, got str") as caught:
        load_skeleton(spec)
    assert "\n" not in str(caught.value)
