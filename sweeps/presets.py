"""Settings that the makers of a model recommend for it, by name: numbers for the `generation` section of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from designspace.errors import did_you_mean
from sweeps.model_settings import NAME


@dataclass(frozen=True)
class Preset:
    """What a model card recommends.

    Attributes:
        values: fields of `generation`.
        models: which models it is for.
        source: where it stands.
        beside: what the same place says of prompts, which a task declares.
    """

    values: Mapping[str, Any]
    models: str
    source: str
    beside: str


_QWEN = "Qwen3-4B, Qwen3-8B"
_QWEN_CARD = "https://huggingface.co/Qwen/Qwen3-8B, Best Practices"
PRESETS: Mapping[str, Preset] = {
    "deepseek-r1-distill": Preset(
        {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 32768},
        "DeepSeek-R1-Distill-Qwen-1.5B, -Qwen-7B, -Llama-8B",
        "https://github.com/deepseek-ai/DeepSeek-R1, Evaluation Results and Usage Recommendations",
        "no system message; mathematics with the directive of `prompt: boxed-suffix`",
    ),
    "qwen3-thinking": Preset(
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_new_tokens": 32768},
        _QWEN,
        _QWEN_CARD,
        "`chat: {enable_thinking: true}`; mathematics with the directive of `prompt: boxed-suffix`",
    ),
    "qwen3-non-thinking": Preset(
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_new_tokens": 32768},
        _QWEN,
        _QWEN_CARD,
        "`chat: {enable_thinking: false}`; mathematics with the directive of `prompt: boxed-suffix`",
    ),
}


def with_preset(data: Any) -> Any:
    """Return a `generation` section with what its preset says, where it does not say so itself.

    Raises:
        ValueError: no such preset.
    """
    name = data.get("preset") if isinstance(data, dict) else None
    if not isinstance(name, str) or name == NAME:  # the models' own, which `sweeps.spec` has filled in
        return data
    if name not in PRESETS:
        known = (*PRESETS, NAME)
        raise ValueError(f"preset must be one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
    return {**PRESETS[name].values, **data}
