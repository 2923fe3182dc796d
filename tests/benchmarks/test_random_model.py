"""Random models: complete, the same each time, and of the size that is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import random_model
from benchmarks.random_model import SHAPES, n_parameters, write_model
from benchmarks.subject import context_and_question, random_prompt, subject
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.query_statistics import QueryPass

TINY = SHAPES["tiny"]


def test_our_loader_takes_it(tmp_path: Path) -> None:
    """Weights, configuration and tokenizer: logits are finite, and a prompt is one token per word."""
    model = subject("tiny", tmp_path)
    loaded = load_model(ModelSpec("tiny", path=str(model.path)))
    ids = loaded.encode(model.prompts(1)[0])
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False, slots=QueryPass(loaded.geometry)).logits

    assert (1, 32, TINY.vocab) == logits.shape and bool(torch.isfinite(logits).all())
    assert 2 == ids[0] and all(idx >= 4 for idx in ids[1:])
    assert frozenset([3]) == loaded.eos_ids
    assert n_parameters(TINY) == sum(weight.numel() for weight in loaded.model.parameters())


def test_every_weight_is_one_that_the_model_has(tmp_path: Path) -> None:
    """None is missing, which transformers would fill at random, and none is too many."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = write_model(tmp_path / "m", TINY)
    expected = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).state_dict()

    assert {name: weight.shape for name, weight in expected.items()} == {
        name: weight.shape for name, weight in load_file(folder / "model.safetensors").items()
    }


def test_same_name_same_bytes(tmp_path: Path) -> None:
    """Two folders hold the same model, and a folder that is complete is not written again."""
    one, other = write_model(tmp_path / "a", TINY), write_model(tmp_path / "b", TINY)
    before = (one / "model.safetensors").stat().st_mtime_ns
    write_model(one, TINY)

    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert before == (one / "model.safetensors").stat().st_mtime_ns


def test_another_shape_is_written_anew(tmp_path: Path) -> None:
    """A folder made by another recipe does not pass for this one."""
    write_model(tmp_path / "m", TINY)
    loaded = load_model(ModelSpec("m", path=str(write_model(tmp_path / "m", replace(TINY, layers=1)))))

    assert 1 == loaded.geometry.n_layers


def test_large_models_come_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files with an index are the same model as one file."""
    whole = load_model(ModelSpec("m", path=str(write_model(tmp_path / "whole", TINY)))).model.state_dict()
    monkeypatch.setattr(random_model, "_SHARD_BYTES", 10_000)
    folder = write_model(tmp_path / "parts", TINY)
    parts = load_model(ModelSpec("m", path=str(folder))).model.state_dict()

    assert len(list(folder.glob("*.safetensors"))) > 1
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())


def test_named_sizes() -> None:
    """As the names say."""
    assert 88.1 == round(n_parameters(SHAPES["0.1b"]) / 1e6, 1)
    assert 7.6 == round(n_parameters(SHAPES["7b"]) / 1e9, 1)


def test_prompts_of_both_sides_are_the_same_words() -> None:
    """On the other side, `<bos>` is put back and the question appended to the context."""
    prompt = random_prompt(TINY, 3, 12)
    context, question = context_and_question(prompt)

    assert 12 == len(prompt.split()) and prompt == f"<bos> {context}{question}"
    assert random_prompt(TINY, 3, 12) == prompt != random_prompt(TINY, 4, 12)


def test_half_precision_is_the_same_files(tmp_path: Path) -> None:
    """A name with `-bf16` behind it: nothing is written twice, and every side is told to load bfloat16."""
    whole, half = subject("tiny", tmp_path), subject("tiny-bf16", tmp_path)
    assert half.path == whole.path
    assert (whole.dtype, half.dtype) == ("float32", "bfloat16")
