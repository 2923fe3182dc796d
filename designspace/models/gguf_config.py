"""The configuration that a GGUF file states, in llama.cpp's terms: every key is put to use, known to be idle, or refused.

transformers' reader passes over the keys and tensors that it does not know, and leaves its classes' defaults in their place:
among others the head size of Qwen3, the soft caps of Gemma 2, the scale of attention of the largest Gemma models, and all
scaling of rotary angles. What is set here is set from the file, with llama.cpp's own default where the file is silent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from designspace.errors import ModelError, did_you_mean
from designspace.models.gguf_file import GgufFile

# Of the architectures that transformers reads, those whose every key and tensor is accounted for below: its name of the type.
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text"}
ROPE_FACTORS = "rope_freqs.weight"

_REQUIRED = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    # Not optional as in llama.cpp: without it the reader would leave the queries and keys of a Llama in llama.cpp's order.
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_HEAD_SIZES = ("attention.key_length", "attention.value_length", "rope.dimension_count")
_ROTARY = ("rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear")
_OF_GEMMA = {
    "gemma2": ("attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"),
    "gemma3": (
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "final_logit_softcapping",
        "rope.freq_base_swa",
    ),
}
# Keys that say nothing which transformers' classes of these architectures do otherwise, as long as they have this value.
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.attn_factor": (0.0, 1.0),
    "use_parallel_residual": (False,),
}
# Never read where the model runs: the vocabulary is the embedding's, the length before scaling is only YaRN's.
_SILENT = {"vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout"}

_BLOCK = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down"
_POST_NORMS, _HEAD_NORMS = "post_attention_norm post_ffw_norm", "attn_q_norm attn_k_norm"
_WEIGHTS = {
    "llama": _BLOCK,
    "qwen2": _BLOCK,
    "qwen3": f"{_BLOCK} {_HEAD_NORMS}",
    "gemma2": f"{_BLOCK} {_POST_NORMS}",
    "gemma3": f"{_BLOCK} {_POST_NORMS} {_HEAD_NORMS}",
}
_BIASES = {"qwen2": "attn_q attn_k attn_v"}
# Layers by which llama.cpp knows the 27B models, whose attention is scaled by another size than their heads'.
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
_LLAMA3_ORIGINAL_TOKENS, _LLAMA3_LOW, _LLAMA3_HIGH = 8192, 1.0, 4.0


def check_supported(file: GgufFile) -> None:
    """Check that nothing of a file would be passed over when transformers reads it.

    Raises:
        ModelError: naming the architecture, or the key or tensor.
    """
    architecture = file.architecture
    if architecture not in ARCHITECTURES:
        known = did_you_mean(architecture, ARCHITECTURES)
        raise ModelError(f"{file.path}: GGUF architecture {architecture!r} cannot be imported{known}")
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise ModelError(f"{file.path}: general.type must be 'model', got {kind!r}")
    if str(file.metadata.get("general.name", "")) == "mistral" and architecture == "llama":
        raise ModelError(f"{file.path}: general.name 'mistral' makes transformers read it as another architecture")
    if faults := [*_unread_keys(file), *_unread_tensors(file)]:
        raise ModelError(f"{file.path}: {'; '.join(faults)}")


def stated_configuration(file: GgufFile, rope_factors: np.ndarray | None) -> dict[str, Any]:
    """Return what transformers' configuration of a file's model must say, with nothing that matters left to a default.

    rope_factors: [D/2], what the file divides the rotary frequencies by; None: nothing. To be asked after `check_supported`.

    Raises:
        ModelError: a key is missing or contradicts another, or the rotary factors are of no known rule.
    """
    stated: dict[str, Any] = {attribute: _number(file, key) for key, attribute in _REQUIRED.items()}
    stated["vocab_size"] = file.shape("token_embd.weight")[0]
    stated["tie_word_embeddings"] = all(tensor.name != "output.weight" for tensor in file.tensors)
    stated["head_dim"] = head_dim = _head_dim(file)
    for name, key in {"bos_token_id": "bos_token_id", "pad_token_id": "padding_token_id"}.items():
        stated[name] = file.metadata.get(f"tokenizer.ggml.{key}")
    theta = float(_value(file, "rope.freq_base", 10_000.0))
    rope = {"rope_theta": theta, "rope_type": "default", **_scaling(file, theta, head_dim, rope_factors)}
    if file.architecture == "gemma3":
        local = float(_value(file, "rope.freq_base_swa", 10_000.0))
        rope = {"full_attention": rope, "sliding_attention": {"rope_theta": local, "rope_type": "default"}}
    of_gemma = _of_gemma(file, stated) if file.architecture in _OF_GEMMA else {}
    return {**stated, "rope_parameters": rope, **of_gemma}


def _of_gemma(file: GgufFile, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Gemma 2 and 3 have beside the others: windows, soft caps, the scale of attention."""
    architecture, n_layers = file.architecture, stated["num_hidden_layers"]
    window = _value(file, "attention.sliding_window", 4096 if architecture == "gemma2" else 0)
    pattern = _value(file, "attention.sliding_window_pattern", 6) if architecture == "gemma3" else 2
    if not window:
        raise ModelError(f"{file.path}: {architecture}.attention.sliding_window must be stated, got {window}")
    slides = pattern if isinstance(pattern, list) else [layer % pattern < pattern - 1 for layer in range(n_layers)]
    caps = (50.0, 30.0) if architecture == "gemma2" else (0.0, 0.0)
    is_27b = n_layers == _LAYERS_OF_27B[architecture]
    return {
        "sliding_window": int(window),
        "layer_types": ["sliding_attention" if slide else "full_attention" for slide in slides],
        "attn_logit_softcapping": _value(file, "attn_logit_softcapping", caps[0]) or None,
        "final_logit_softcapping": _value(file, "final_logit_softcapping", caps[1]) or None,
        "query_pre_attn_scalar": (
            stated["hidden_size"] // stated["num_attention_heads"] if is_27b else stated["head_dim"]
        ),
    }


def _unread_keys(file: GgufFile) -> Iterator[str]:
    """Yield why keys of the architecture cannot be followed."""
    architecture = file.architecture
    used = {*_REQUIRED, *_HEAD_SIZES, *_ROTARY, *_OF_GEMMA.get(architecture, ()), *_SILENT}
    for name, value in file.metadata.items():
        section, _, key = name.partition(".")
        if section != architecture or key in used or value in _IDLE.get(key, ()):
            continue
        yield f"{name} = {value!s:.40} is not known for this architecture, and would be passed over"


def _unread_tensors(file: GgufFile) -> Iterator[str]:
    """Yield which tensors belong to no weight of the architecture; of many the first."""
    architecture = file.architecture
    weights = _WEIGHTS[architecture].split()
    names = {"token_embd.weight", "output_norm.weight", "output.weight"}
    names |= {ROPE_FACTORS} if architecture == "llama" else set()
    blocks = {f"{name}.weight" for name in weights}
    blocks |= {f"{name}.bias" for name in _BIASES.get(architecture, "").split()}
    n_layers = file.metadata.get(f"{architecture}.block_count", 0)
    unread = []
    for tensor in file.tensors:
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", tensor.name)
        known = block[2] in blocks and int(block[1]) < n_layers if block else tensor.name in names
        if not known:
            unread.append(tensor.name)
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        yield f"tensor {unread[0]}{more} is not known for this architecture, and would be passed over"


def _head_dim(file: GgufFile) -> int:
    """Return the size of a head; keys, values and what the rotation turns must be of one size."""
    sizes = {key: file.metadata.get(f"{file.architecture}.{key}") for key in _HEAD_SIZES}
    stated = {key: size for key, size in sizes.items() if size is not None}
    if len(set(stated.values())) > 1:
        listed = ", ".join(f"{file.architecture}.{key} = {size}" for key, size in stated.items())
        raise ModelError(f"{file.path}: heads must have one size, all of it turned, got {listed}")
    whole = _number(file, "embedding_length") // _number(file, "attention.head_count")
    return int(next(iter(stated.values()), whole))


def _scaling(file: GgufFile, theta: float, head_dim: int, rope_factors: np.ndarray | None) -> dict[str, Any]:
    """Return how the rotary frequencies are scaled, in transformers' words; empty: not at all."""
    # llama.cpp's defaults: linear, by one.
    kind = str(_value(file, "rope.scaling.type", "linear"))
    factor = float(_value(file, "rope.scaling.factor", 0.0) or _value(file, "rope.scale_linear", 0.0) or 1.0)
    if kind not in ("none", "linear"):
        raise ModelError(f"{file.path}: {file.architecture}.rope.scaling.type must be none or linear, got {kind!r}")
    scaled = kind == "linear" and factor != 1.0
    if rope_factors is None or np.all(rope_factors == 1.0):
        return {"rope_type": "linear", "factor": factor} if scaled else {}
    if scaled:
        raise ModelError(f"{file.path}: both {ROPE_FACTORS} and {file.architecture}.rope.scaling.factor scale angles")
    greatest = float(rope_factors.max())
    if not np.allclose(rope_factors, _llama3_factors(theta, head_dim, greatest), rtol=1e-4, atol=0.0):
        raise ModelError(f"{file.path}: {ROPE_FACTORS} are not those of Llama 3, the only ones that can be imported")
    return {
        "rope_type": "llama3",
        "factor": greatest,
        "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL_TOKENS,
    }


def _llama3_factors(theta: float, head_dim: int, greatest: float) -> np.ndarray:
    """Return what Llama 3 divides the rotary frequencies by, [D/2]: nothing where they are high, all of it where low."""
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = _LLAMA3_ORIGINAL_TOKENS * frequencies / (2 * math.pi)  # within the length before scaling
    share = np.clip((turns - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - share) / greatest + share))


def _value(file: GgufFile, key: str, default: Any) -> Any:
    return file.metadata.get(f"{file.architecture}.{key}", default)


def _number(file: GgufFile, key: str) -> Any:
    """Return a number of the architecture that has to be there.

    Raises:
        ModelError: it is not, or it is a list with a number for each layer.
    """
    value = _value(file, key, None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        shown = "none" if value is None else f"{value!r:.60}"
        raise ModelError(f"{file.path}: {file.architecture}.{key} must be one number above 0, got {shown}")
    return value
