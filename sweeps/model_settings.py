"""`preset: model`: how a text is drawn as the models' own `generation_config.json` says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from designspace.errors import DeclarationError
from designspace.models.model_spec import ModelSpec

_FILE = "generation_config.json"
NAME = "model"
# What the file may say that changes which token is chosen, and is not implemented, with the value at which it does nothing.
_REFUSED: dict[str, Any] = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "min_p": 0.0, "typical_p": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "no_repeat_ngram_size": 0, "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0,
    "penalty_alpha": 0.0, "top_h": None, "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None,
    "forced_bos_token_id": None, "forced_eos_token_id": None, "sequence_bias": None, "guidance_scale": None,
    "exponential_decay_length_penalty": None, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip


def model_settings(models: Sequence[ModelSpec]) -> dict[str, float | int]:
    """Return temperature, top_p and top_k as the files of all these models say.

    A file that does not ask for drawing means greedy decoding, as in transformers. What it leaves out does not limit the draw.

    Raises:
        DeclarationError: a model has no such file here, asks for what is not implemented, or says otherwise than another.
    """
    found = {model.name: _settings(model) for model in models}
    if len({tuple(sorted(values.items())) for values in found.values()}) > 1:
        said = "; ".join(f"{name}: {_shown(values)}" for name, values in found.items())
        raise DeclarationError(
            f"preset: model needs models that say the same, got {said}: write one sweep for each of them (they may share a "
            "results folder)"
        )
    return next(iter(found.values()), {})


def _settings(model: ModelSpec) -> dict[str, float | int]:
    content = _content(model)
    broken = [
        f"{name}={content[name]!r}"
        for name, nothing in _REFUSED.items()
        if content.get(name) is not None and content[name] != nothing
    ]
    if broken:
        raise DeclarationError(
            f"the {_FILE} of model {model.name!r} asks for {', '.join(broken)}, which is not implemented: write temperature, "
            "top_p and top_k instead of preset: model"
        )
    if not content.get("do_sample"):
        return {"temperature": 0.0, "top_p": 1.0, "top_k": 0}
    numbers = {name: content.get(name) for name in ("temperature", "top_p", "top_k")}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            raise DeclarationError(f"{name} in the {_FILE} of model {model.name!r} must be a number, got {number!r}")
    temperature, top_p, top_k = (numbers[name] for name in ("temperature", "top_p", "top_k"))
    return {
        "temperature": 1.0 if temperature is None else float(temperature),
        "top_p": 1.0 if top_p is None else float(top_p),
        "top_k": 0 if top_k is None else int(top_k),
    }


def _content(model: ModelSpec) -> dict[str, Any]:
    path: Path | None = None if model.folder is None else model.folder / _FILE
    if path is None or not path.is_file():
        where = "it is on the hub" if path is None else f"there is no {path}"
        raise DeclarationError(
            f"preset: model reads the {_FILE} in the folder of model {model.name!r}, but {where}: write temperature, top_p "
            "and top_k"
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DeclarationError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise DeclarationError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _shown(values: dict[str, float | int]) -> str:
    return ", ".join(f"{name} {number:g}" for name, number in values.items())
