"""Texts that a model cannot take are refused before any work; a mixture of experts runs in the default type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cluster.run import run_sweep
from designspace.errors import DeclarationError
from tests.cluster.tiny import write_replicated


def refused(sweep: Path, results: Path) -> str:
    """Return why a run is refused; nothing has been written."""
    with pytest.raises(DeclarationError) as caught:
        run_sweep(sweep, results, executor="inline", progress="none")
    assert not results.exists()
    return str(caught.value)


def replace_model(folder: Path, kind: str = "llama", **changes: object) -> None:
    """Write another random model in the place of the tiny one, under the same tokenizer."""
    kept = json.loads((folder / "config.json").read_text())
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    shape = {name: kept[name] for name in (*names, "num_key_value_heads", "max_position_embeddings", "eos_token_id")}
    config = AutoConfig.for_model(kind, **{**shape, "bos_token_id": None, "pad_token_id": 0, **changes})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize("rope_type", ["default", "dynamic"])
def test_texts_past_the_last_position(tmp_path: Path, rope_type: str) -> None:
    """They would be degenerate and look like an effect of compression; with dynamic scaling, rows would mix."""
    sweep = write_replicated(tmp_path)
    scaling = {"rope_type": rope_type, "rope_theta": 10_000.0, "factor": 2.0}
    replace_model(tmp_path / "tiny-a", max_position_embeddings=40, rope_parameters=scaling)

    assert "texts may have 40 positions, 'p5' with its new tokens may reach" in refused(sweep, tmp_path / "r")


def test_a_tokenizer_that_writes_more_tokens_than_the_model_has(tmp_path: Path) -> None:
    """Tokens were added, and the embedding was not resized."""
    sweep = write_replicated(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny-a")
    size = len(tokenizer)
    tokenizer.add_tokens(["final", "answer"])
    tokenizer.save_pretrained(tmp_path / "tiny-a")

    message = refused(sweep, tmp_path / "r")
    assert "the tokenizer writes token" in message and f"the model's embedding has {size} rows" in message


def test_a_mixture_of_experts_runs_in_float32(tmp_path: Path) -> None:
    """Measuring its memory without weights met a kernel that takes bfloat16 alone."""
    sweep = write_replicated(tmp_path, replicates=1, n_problems=2, max_new_tokens=8)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
    replace_model(tmp_path / "tiny-a", "qwen3_moe", head_dim=8, **experts)

    assert run_sweep(sweep, tmp_path / "r", executor="inline", progress="none").complete
