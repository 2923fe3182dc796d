"""Whatever stands in a model's config.json, a fault is one line that names the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from designspace.errors import ModelError
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from sweeps.sources import declared_geometry
from tests.cluster.tiny import write_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder, 0)
    return folder


@pytest.fixture
def spec(sound: Path, tmp_path: Path) -> ModelSpec:
    """A copy of it, whose config.json may be changed."""
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return ModelSpec("tiny", path=str(tmp_path))


def message_of(spec: ModelSpec) -> str:
    """Return what loading has to say: one line."""
    with pytest.raises(ModelError) as caught:
        load_model(spec)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "config.json:1:1: not JSON: Expecting value"),
        (b'{\n "a": 1,,}', "config.json:2:9: not JSON"),
        (b"[1]", "config.json: must hold a JSON object, got list"),
        (b'{"a": "\xe9"}', "config.json: not UTF-8: byte 0xe9 at 7"),
        (b'{"a": ' + b"[" * 100_000, "config.json: objects and lists are nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "config.json: not JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_json_object(spec: ModelSpec, content: bytes, message: str) -> None:
    """Whoever asks hears the same; a plan without its shape goes by the reader of sweeps, which says so too."""
    (Path(str(spec.path)) / "config.json").write_bytes(content)

    assert message in message_of(spec)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_skeleton(spec)
    assert declared_geometry(spec) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": "four"}, "config.json: .*num_attention_heads.*expected int, got str"),
        ({"hidden_size": 33}, "config.json: .*hidden size"),
        ({"model_type": {"a": 1}}, "config.json: TypeError: unhashable"),
        ({"architectures": 3, "dtype": ""}, "config.json: AttributeError"),
        ({"rope_parameters": {"rope_type": "unheard-of"}}, "config.json: no model can be made of it: KeyError: 'unheard-of'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}, "config.json"),
        ({"pad_token_id": 99}, "config.json: no model can be made of it: AssertionError"),
        ({"num_hidden_layers": 10**9}, r"config.json: num_hidden_layers must be at most 1,000, got 1000000000"),
        ({"num_hidden_layers": float("nan")}, r"config.json: num_hidden_layers must be at most 1,000, got nan"),
        ({"head_dim": 10**9}, r"config.json: head_dim must be at most 65,536"),
        ({"vocab_size": 10**10}, r"config.json: states a model of 640,000,012,448 weights, the files beside it hold"),
        ({"num_hidden_layers": 3}, r"are not those of its config.json: it lacks model.layers.2"),
        ({"kv_owners": 2}, r"kv_owners must name for each of 2 layers itself or an earlier one, got 2"),
        ({"kv_owners": [1, 1]}, r"kv_owners must name"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "cannot load model 'tiny' from .*requires optimum"),
    ],
    ids=str,
)  # fmt: skip
def test_what_transformers_cannot_use(spec: ModelSpec, changes: dict[str, Any], message: str) -> None:
    """Whatever its classes raise, and before anything fills the memory."""
    file = Path(str(spec.path)) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert re.search(message, message_of(spec))


@pytest.mark.parametrize("kind", ["gpt2", "mamba", "bert"])
def test_other_kinds_of_models_have_no_skeleton(spec: ModelSpec, kind: str) -> None:
    """They lack what a decoder has, which is no reason for a traceback."""
    file = Path(str(spec.path)) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": kind}))
    with pytest.raises(ModelError, match=r"is not supported|config\.json"):
        load_skeleton(spec)


@pytest.mark.parametrize(
    ("name", "content"), [("tokenizer.json", b"{}"), ("tokenizer.json", b"\xff"), ("tokenizer_config.json", b"[")]
)
def test_a_damaged_tokenizer_is_one_line(spec: ModelSpec, name: str, content: bytes) -> None:
    """Of the tokenizers library, of JSON, of the reader of text."""
    (Path(str(spec.path)) / name).write_bytes(content)
    assert "cannot load the tokenizer of model 'tiny' from" in message_of(spec)


def test_a_chat_template_that_raises_is_one_line(spec: ModelSpec) -> None:
    """It is a program of the model's authors."""
    (Path(str(spec.path)) / "chat_template.jinja").write_text("{{ raise_exception('no user\\nhere') }}")
    with pytest.raises(
        ModelError, match="the model's chat template refuses the messages: TemplateError: no user here"
    ) as caught:
        load_skeleton(spec).encode("add 1 and 2")
    assert len(str(caught.value).splitlines()) == 1
