"""Tiny random models of the families that are in demand, and some that must be refused.

python -m designspace.testing.model_families          prints docs/models.md: what trying each of them out has found
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from designspace.axes import Geometry
from designspace.errors import ModelError
from designspace.models.loading import prepare
from designspace.models.rotary_limits import longest_free_position

_SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.15,
}
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
_WINDOW = {"head_dim": 16, "sliding_window": 8}
_KINDS_OF_LAYERS = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}

# By name: the model type of transformers, and how its configuration differs from the shape above.
SUPPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 2": ("llama", {"num_key_value_heads": 4}),
    "Llama 3": ("llama", {"rope_parameters": _LLAMA3}),
    "Llama, YaRN": ("llama", {"rope_parameters": _YARN}),
    "Qwen2": ("qwen2", {}),
    "Qwen3": ("qwen3", {"head_dim": 16}),
    "Qwen3 MoE": ("qwen3_moe", {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "Mistral": ("mistral", _WINDOW),
    "Mixtral": ("mixtral", {"num_local_experts": 4}),
    "Phi-3": ("phi3", {}),
    "Gemma 2": ("gemma2", {**_WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 30.0}),
    "Gemma 3": ("gemma3_text", {**_WINDOW, **_KINDS_OF_LAYERS}),
    "OLMo 2": ("olmo2", {}),
    "OLMo 3": ("olmo3", {"sliding_window": 8, **_KINDS_OF_LAYERS}),
    "SmolLM3": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "GPT-OSS": ("gpt_oss", {**_WINDOW, "num_local_experts": 4, "rope_parameters": _YARN}),
    "StableLM": ("stablelm", {}),
    "GLM-4": ("glm4", {"head_dim": 16}),
    "Llama, dynamic scaling": ("llama", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 64}),
}  # fmt: skip

# By name: the model type, its configuration, and what of the refusal names the reason.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "DiffLlama": ("diffllama", {"head_dim": 16}, "attends twice in one pass"),
    "GPT-2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4}, "rotary positions and ordinary attention needed"),
}


def random_model(kind: str, changes: dict[str, Any]) -> Any:
    """Return a random model of transformers, the same one every time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = _SHAPE if kind != "gpt2" else {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, **changes})).eval()
    if kind == "gpt_oss":  # its sinks start as whatever memory holds
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks)
    return model


_HEAD = """\
# Models

A model is accepted by proof, not by its name. When it is loaded, a few short random texts of unlike lengths run through it
in one batch, under slot attention and under transformers' own, and it is refused if anything differs: the logits of prompts
and of decode steps; a row's logits when the other rows change; the number and shape of what each layer hands over; weights
that are missing, unknown or of another shape. `designspace check MODEL` shows what was found on a model of yours.

Logits are compared in float32, whatever type the model runs in, if there is memory for it. Of a real model in bfloat16,
rounding alone moves logits by up to a tenth of the largest, in transformers as here; that would refuse right models and hide
wrong ones. In its own type a model must then come as close to float32 as transformers itself does, but for a factor of four.

Quantised weights are compared twice: in float32 as the numbers that the integers stand for, where any difference is one in
what is computed; and as they are, next to transformers' own run of the same integers, within the same factor of four.

A model comes from the hub, from a folder, or from a GGUF file: [how to use a real model](how-to/use-a-real-model.md).

How each layer turns its keys by their positions is found by running one text at two places: at which of the model's
frequencies, or not at all. Mechanisms that turn keys back (`triattention`, `expected-attention`, `kvquant`, span means of
unrotated keys, and their calibrations) follow each layer's own, and refuse a model in which a layer does it in another way
still; everything else runs.

This page is printed by `python -m designspace.testing.model_families`, on random models of three layers in float32. *Logits*
is the largest difference from transformers' eager attention, next to logits of about one. A row of a batch was the same to
the bit whatever its batch-mates, in every model that was accepted.
"""


def _kinds_of_layers(geometry: Geometry) -> Iterator[str]:
    """Yield how layers differ in the way they turn keys, where they do."""
    if geometry.layer_inv_freq is None:
        return
    still = [str(n) for n, own in enumerate(geometry.layer_inv_freq) if not own.any()]
    if still:
        yield f"layer{'s'[: len(still) > 1]} {', '.join(still)} {'turn' if len(still) > 1 else 'turns'} no keys"
    n_kinds = len({tuple(own.tolist()) for own in geometry.layer_inv_freq if own.any()})
    if n_kinds > 1:
        yield f"layers turn keys at {n_kinds} sets of frequencies"


def page() -> Iterator[str]:
    """Yield the lines of docs/models.md."""
    yield _HEAD
    yield "| family | model type | logits | turning keys back | remarks |"
    yield "| --- | --- | --: | --: | --- |"
    for name, (kind, changes) in SUPPORTED.items():
        loaded = prepare(random_model(kind, changes))
        proof, remarks = loaded.proof, [loaded.geometry.rotation_note, *_kinds_of_layers(loaded.geometry)]
        if proof is None:
            continue
        if longest_free_position(loaded.model) is not None:
            remarks.append("texts no longer than it was trained for: beyond, angles depend on the longest in a batch")
        errors = f"{proof.logits_difference:.0e} | {proof.unrotation_error:.0e}"
        yield f"| {name} | `{kind}` | {errors} | {'; '.join(filter(None, remarks))} |"
    yield "\nRefused, with the reason that is given:\n"
    for name, (kind, changes, _) in REFUSED.items():
        try:
            prepare(random_model(kind, changes))
        except ModelError as error:
            yield f"* {name} (`{kind}`): {error}"


if __name__ == "__main__":
    for line in page():
        print(line)
