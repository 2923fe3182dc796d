"""Whatever a person means by a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from designspace.errors import DesignspaceError
from designspace.models import loading
from designspace.models.model_spec import ModelSpec
from designspace.program import load as load_module
from designspace.program.generate import generate
from designspace.program.load import load
from tests.cluster.tiny import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model(folder, 0)
    return folder


def test_a_folder_a_specification_and_a_model_in_memory_are_the_same(folder: Path) -> None:
    """They write the same tokens; what is loaded already stays what it is."""
    by_folder = load(folder)
    in_memory = load(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    models: list[Any] = [str(folder), by_folder, load(ModelSpec("tiny", path=str(folder))), in_memory]
    texts = [generate(model, "Solve Problem : 1 and 2", "knorm", 10, max_new_tokens=12) for model in models]

    assert len({text.token_ids for text in texts}) == 1
    assert len({text.text for text in texts}) == 1
    assert load(by_folder) is by_folder
    assert load(in_memory, "another").tokenizer == "another"
    assert (by_folder.spec, in_memory.spec) == (ModelSpec("tiny", path=str(folder)), None)


def test_without_a_tokenizer_there_are_tokens_only(folder: Path) -> None:
    """And a text is refused."""
    bare = load(AutoModelForCausalLM.from_pretrained(folder))

    assert generate(bare, [3, 4, 5], max_new_tokens=3).text == ""
    with pytest.raises(DesignspaceError, match="needs the model's tokenizer"):
        generate(bare, "Solve", max_new_tokens=3)


def test_a_hub_repository_is_asked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its revision."""
    asked: list[tuple[ModelSpec, str]] = []
    monkeypatch.setattr(load_module, "load_model", lambda spec, device: asked.append((spec, device)))
    load("org/some-model", revision="abc", dtype="bfloat16", device="cuda")
    load("trace-llama")

    assert asked == [
        (ModelSpec("some-model", hub="org/some-model", revision="abc", dtype="bfloat16"), "cuda"),
        (ModelSpec.bundled("trace-llama"), "cpu"),
    ]
    assert load_module.load_model is not loading.load_model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pocket-lama", {}), "'pocket-lama' .did you mean 'pocket-llama'"),
        (("/nowhere/model", {}), "folder or hub repository is called '/nowhere/model'"),
        ((3, {}), "got int"),
        (("pocket-llama", {"revision": "x"}), "only a hub repository has a revision"),
        ((ModelSpec.bundled("pocket-llama"), {"dtype": "bfloat16"}), "names its own, got dtype='bfloat16'"),
    ],
)
def test_what_is_no_model_is_named(arguments: tuple[Any, dict[str, Any]], message: str) -> None:
    """And the nearest that is one."""
    with pytest.raises(DesignspaceError, match=message):
        load(arguments[0], **arguments[1])


def test_a_model_in_memory_stays_where_it_is(folder: Path) -> None:
    """Asking for another place or type would be passed over otherwise."""
    with pytest.raises(DesignspaceError, match="in memory already, got device='cuda'"):
        load(load(folder), device="cuda")
