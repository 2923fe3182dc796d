"""`preset: model`: how a model's own `generation_config.json` says that its texts are drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from designspace.errors import DeclarationError
from designspace.models.model_spec import ModelSpec

_FILE = "generation_config.json"
NAME = "model"
# What the file may say that changes which token is chosen, and is not implemented, with the value at which it does nothing.
_REFUSED: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "no_repeat_ngram_size": 0,
    "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "penalty_alpha": 0.0, "top_h": None,
    "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "sequence_bias": None, "guidance_scale": None, "exponential_decay_length_penalty": None,
    "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
# What the file may say that is implemented, with the value that transformers has where it says nothing of it; but `top_k`
# does not limit the draw.
_NEUTRAL: dict[str, float | int] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
SETTINGS = tuple(_NEUTRAL)
_ALSO_GREEDY = ("repetition_penalty",)  # what counts whether tokens are drawn or not


def model_settings(model: ModelSpec) -> dict[str, float | int]:
    """Return the settings that a model's file says, by their names in `generation`.

    A file that does not ask for drawing means greedy decoding, as in transformers; a repetition penalty counts there too. What
    the file leaves out does not limit the draw.

    Raises:
        DeclarationError: the model has no such file here, or it asks for what is not implemented.
    """
    content = _content(model)
    broken = [
        f"{name}={content[name]!r}"
        for name, nothing in _REFUSED.items()
        if content.get(name) is not None and content[name] != nothing
    ]
    if broken:
        raise DeclarationError(
            f"the {_FILE} of model {model.name!r} asks for {', '.join(broken)}, which is not implemented: write temperature, "
            "top_p, top_k, min_p and repetition_penalty instead of preset: model"
        )
    drawn = bool(content.get("do_sample"))
    asked = [name for name in (_NEUTRAL if drawn else _ALSO_GREEDY) if content.get(name) is not None]
    found = _NEUTRAL | {name: _number(model, name, content[name]) for name in asked}
    return found if drawn else {**found, "temperature": 0.0}


def _number(model: ModelSpec, name: str, number: Any) -> float | int:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise DeclarationError(f"{name} in the {_FILE} of model {model.name!r} must be a number, got {number!r}")
    return int(number) if name == "top_k" and number == int(number) else float(number)


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
