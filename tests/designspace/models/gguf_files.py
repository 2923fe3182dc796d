"""GGUF files of tiny models, written by hand from llama.cpp's names and its order of a Llama's queries and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "The cat's 3 hats cost  $1,234.56!",
    "don't count to 42 , 17 + 25 = 42",
    "a quick   brown fox 99\n\n\tand 7 dogs",
]
SPECIAL = ["<|end|>", "<|start|>", "<|turn|>", "<unk>"]
TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|turn|>\n{% endfor %}"
VOCABULARY = 320
# What llama.cpp calls the parts of a layer.
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"post_attention_layernorm": "ffn_norm"}
GEMMA_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def byte_level_tokenizer(digits: bool = True) -> Tokenizer:
    """Return a trained byte-level BPE as SmolLM has it: digits one by one, then GPT-2's rule."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), words]) if digits else words
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    return tokenizer


def piece_tokenizer(prefix: bool) -> Tokenizer:
    """Return a trained BPE of SentencePiece's kind, with or without a blank put before every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY + 40, special_tokens=[*SPECIAL, *bytes_])
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    return tokenizer


def vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    """Return the tokens in order, filled up to the rows of an embedding."""
    tokens = [str(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]
    return [*tokens, *(f"[PAD{i}]" for i in range(len(tokens), size))]


def tokenizer_keys(tokenizer: Tokenizer, size: int, model: str = "gpt2", pre: str | None = "smollm") -> dict[str, Any]:
    """Return what llama.cpp's converter writes of a tokenizer, all but flags."""
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = vocabulary(tokenizer, size)
    kinds = [
        3 if token in SPECIAL else 6 if token.startswith("<0x") else 5 if token.startswith("[PAD") else 1
        for token in tokens
    ]
    keys = {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 3,
    }
    scores = {"tokenizer.ggml.scores": [-float(i) for i in range(size)]} if model == "llama" else {}
    return {**keys, **scores, **({"tokenizer.ggml.pre": pre} if pre else {})}


def architecture_keys(config: Any, architecture: str) -> dict[str, Any]:
    """Return what llama.cpp's converter writes of a configuration."""
    rope = config.rope_parameters
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": (rope.get("full_attention") or rope)["rope_theta"],
    }
    if architecture != "qwen2":
        keys |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if architecture == "llama":
        keys |= {"rope.dimension_count": config.head_dim, "vocab_size": config.vocab_size}
    if architecture.startswith("gemma"):
        keys["attention.sliding_window"] = config.sliding_window
    if architecture == "gemma2":
        keys["attn_logit_softcapping"] = config.attn_logit_softcapping
        keys["final_logit_softcapping"] = config.final_logit_softcapping
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def tensors_of(model: Any, architecture: str) -> dict[str, np.ndarray]:
    """Return a model's weights under llama.cpp's names: a Llama's queries and keys interleaved, Gemma's norms plus one."""
    config, gemma = model.config, architecture.startswith("gemma")
    names = BLOCK | (GEMMA_NORMS if gemma else NORMS)
    found = {}
    for name, weight in model.state_dict().items():
        values = weight.float().numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part, _, kind = rest.rpartition(".")
            short = f"blk.{layer}.{names[part]}.{kind}"
        else:
            short = outer.get(name, "output.weight")
        if architecture == "llama" and short.endswith(("attn_q.weight", "attn_k.weight")):
            n_heads = config.num_attention_heads if "attn_q" in short else config.num_key_value_heads
            # The halves that the rotation pairs become neighbours.
            halves = values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        found[short] = values + 1 if gemma and "norm" in short else values
    return found


def write_gguf(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    type_of: Callable[[str, np.ndarray], GGMLQuantizationType] | None = None,
) -> Path:
    """Write a file; norms, biases and what is not given a type are F32."""
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, values in tensors.items():
        values = np.ascontiguousarray(values, dtype=np.float32)
        kind = GGMLQuantizationType.F32 if type_of is None or values.ndim == 1 else type_of(name, values)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_type(kind: GGMLQuantizationType) -> Callable[[str, np.ndarray], GGMLQuantizationType]:
    """Return what gives all matrices one type."""
    return lambda name, values: kind


def randomised(model: Any, seed: int = 0) -> Any:
    """Return a model all of whose weights, norms and biases too, are random numbers that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.ndim == 1 else 0.05)
        parameter.data = (drawn + (parameter.data.mean() if parameter.ndim == 1 else 0)).bfloat16().float()
    return model.eval()
