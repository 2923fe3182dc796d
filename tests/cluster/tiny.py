"""Tiny random models, a task file and sweeps that run in a second or two."""

from __future__ import annotations

import json
from pathlib import Path

N_PROBLEMS = 6
_WORDS = (
    "<pad>",
    "<unk>",
    "<eos>",
    "\\boxed{",
    "}",
    *"0123456789",
    "Solve",
    "Problem",
    ":",
    "add",
    "and",
    "so",
    "then",
)

SWEEP = """\
schema: 1
study: tiny
models:
  - {{name: tiny-a, path: {models}/tiny-a}}
  - {{name: tiny-b, path: {models}/tiny-b}}
tasks:
  - {{name: gsm8k, split: test, path: {models}/problems.jsonl}}
budgets: [24]
mechanisms: [full, random, streaming-llm]
seeds: {{count: 2, root: 7}}
generation: {{temperature: 1.0, max_new_tokens: {max_new_tokens}, rows: 2}}
"""


ONE_MODEL = """\
schema: 1
study: tiny
models: [{{name: tiny-a, path: {models}/tiny-a}}]
tasks: [{{name: gsm8k, split: test, path: {models}/problems.jsonl}}]
budgets: [24]
mechanisms: {mechanisms}
seeds: {{count: {replicates}, root: 7}}
generation: {{temperature: 1.0, max_new_tokens: {max_new_tokens}, rows: {rows}}}
"""


def write_model(folder: Path, seed: int) -> None:
    """Save a random Llama of a few thousand parameters with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(_WORDS), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, eos_token_id=2, bos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)


def write_sweep(folder: Path, max_new_tokens: int = 40) -> Path:
    """Write two models, six problems and a sweep of 2 models x 3 mechanisms x 2 replicates x 3 shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("tiny-a", "tiny-b")):
        write_model(folder / name, seed)
    write_problems(folder, N_PROBLEMS)
    sweep = folder / "tiny.yaml"
    sweep.write_text(SWEEP.format(models=folder, max_new_tokens=max_new_tokens))
    return sweep


def write_problems(folder: Path, n_problems: int) -> None:
    """Write additions as problems."""
    rows = [{"id": f"p{i}", "problem": f"add {i} and {i + 1}", "answer": str(2 * i + 1)} for i in range(n_problems)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_replicated(
    folder: Path,
    *,
    mechanisms: str = "[streaming-llm]",
    replicates: int = 3,
    n_problems: int = N_PROBLEMS,
    rows: int = 2,
    max_new_tokens: int = 40,
) -> Path:
    """Write one model and a sweep of few arms with several replicates: every arm is one bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "tiny-a", 0)
    write_problems(folder, n_problems)
    sweep = folder / "tiny.yaml"
    numbers = {"replicates": replicates, "rows": rows, "max_new_tokens": max_new_tokens}
    sweep.write_text(ONE_MODEL.format(models=folder, mechanisms=mechanisms, **numbers))
    return sweep
