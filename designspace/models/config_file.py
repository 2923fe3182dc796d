"""A model's `config.json`: read strictly, then as transformers reads it; every fault names the file.

transformers raises what its classes happen to raise (TypeError, KeyError, AssertionError, its own validation errors), and a
number with a digit too many would keep it busy, or take all memory, before it says anything.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch

from designspace.errors import DesignspaceError, ModelError
from designspace.models.model_spec import ModelSpec

CONFIG = "config.json"
# A digit too many: that many layers take minutes to make, such a head gigabytes of rotary frequencies.
_MOST = {"num_hidden_layers": 1_000, "head_dim": 65_536, "hidden_size": 2**24}
_MOST_BYTES = 16 * 2**20
# What a checkpoint may lack or tie makes a model a little larger than its files; more than that is another model's shape.
_MOST_TIMES = 4
_MOST_CHARACTERS = 300  # of what another library has to say


def source_of(spec: ModelSpec) -> tuple[str, dict[str, str]]:
    """Return where transformers finds a model, and at which revision.

    Raises:
        ModelError: it has neither hub nor path.
    """
    local = str(spec.folder) if spec.gguf else spec.path
    source, where = (local, {}) if local else (spec.hub, {"revision": spec.revision or "main"})
    if source is None:
        raise ModelError(f"model {spec.name!r} needs a hub repository or a local path")
    return source, where


def check_config_file(folder: Path) -> dict[str, Any]:
    """Return what a folder's config.json holds.

    Raises:
        ModelError: it cannot be read, is no JSON object, or says something that no model has; starts with
            `file:line:column` where there is one.
    """
    file = folder / CONFIG
    try:
        if not file.is_file():
            raise ModelError(f"no model at {folder}: config.json and *.safetensors are needed")
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{file}: must have at most {_MOST_BYTES:,} bytes, got {file.stat().st_size:,}")
        data = json.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ModelError(f"{file}: objects and lists are nested too deeply") from None
    except ValueError as error:  # a number with too many digits
        raise ModelError(f"{file}: not JSON: {one_line(error)}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{file}: must hold a JSON object, got {type(data).__name__}")
    for name, most in _MOST.items():
        if isinstance(number := data.get(name), int | float) and not number <= most:
            raise ModelError(f"{file}: {name} must be at most {most:,}, got {number}")
    return data


def configuration_of(spec: ModelSpec) -> Any:
    """Return a model's configuration as transformers reads it; of a hub model nothing else is fetched.

    Raises:
        ModelError: it is not there, or transformers refuses it; the message names the file.
    """
    from transformers import AutoConfig

    source, where = source_of(spec)
    if spec.folder is not None:
        check_config_file(spec.folder)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
    except Exception as error:  # see the head of this file
        raise ModelError(f"{config_of(spec)}: {one_line(error)}") from error


def bare_model(config: Any, dtype: torch.dtype, named: str) -> Any:
    """Return the model of a configuration on the meta device, without weights.

    named: what the message calls the configuration.

    Raises:
        ModelError: transformers cannot make it.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # see the head of this file
        raise ModelError(f"{named}: no model can be made of it: {one_line(error)}") from error


def check_size(spec: ModelSpec, config: Any) -> None:
    """Check that a local model is not by far larger than its weights: what is missing would fill the memory first.

    Quantised weights are passed over: their numbers are packed.

    Raises:
        ModelError: naming config.json, and both numbers.
    """
    if spec.folder is None or getattr(config, "quantization_config", None) is not None:
        return
    named = config_of(spec)
    needed = sum(parameter.numel() for parameter in bare_model(config, getattr(torch, spec.dtype), named).parameters())
    held = sum(_n_numbers(file, file.stat().st_mtime_ns) for file in spec.folder.glob("*.safetensors"))
    if needed > _MOST_TIMES * held:
        raise ModelError(f"{named}: states a model of {needed:,} weights, the files beside it hold {held:,}")


def check_owners(config: Any) -> None:
    """Check that each layer shares the cache with itself, or with an earlier one that has keys and values of its own.

    Raises:
        ModelError: naming `kv_owners`.
    """
    owners, n_layers = getattr(config, "kv_owners", None), config.num_hidden_layers
    if owners is None:
        return
    listed = owners if isinstance(owners, list | tuple) else ()
    whole = [owner for owner in listed if isinstance(owner, int) and not isinstance(owner, bool)]
    sound = len(whole) == len(listed) == n_layers and all(
        0 <= owner <= layer and whole[owner] == owner for layer, owner in enumerate(whole)
    )
    if not sound:
        raise ModelError(
            f"kv_owners must name for each of {n_layers} layers itself or an earlier one, got {owners!r:.80}"
        )


def check_retrofit(config: Any) -> None:
    """Check that a model does not carry decisions of DMS in its queries: its weights load, its attention is another.

    Raises:
        ModelError: naming what the configuration says.
    """
    said = sorted(name for name in vars(config) if name.startswith("dms_"))
    if said and not getattr(config, "dms_separate_alpha", False):
        raise ModelError(
            "a model retrofitted by DMS keeps decisions in the last component of its queries, which its own code sets to zero "
            "before attention and transformers does not: only those with dms_separate_alpha are supported, "
            f"got {', '.join(said)}"
        )


@cache
def _n_numbers(file: Path, changed_ns: int) -> int:
    """Return how many numbers a file of weights holds; its header alone is read."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no dict


def config_of(spec: ModelSpec) -> str:
    """Return how a message names a model's configuration."""
    return f"{spec.hub}/{CONFIG} at {spec.revision or 'main'}" if spec.folder is None else str(spec.folder / CONFIG)


def one_line(error: Exception) -> str:
    """Return what another library's error says, on one line; its class where that alone would say nothing."""
    if isinstance(error, DesignspaceError):
        return str(error)
    said = " ".join(str(error).split())
    shown = said if len(said) <= _MOST_CHARACTERS else f"{said[:_MOST_CHARACTERS]}…"
    return (
        shown if isinstance(error, OSError | ValueError) and said else f"{type(error).__name__}: {shown}".rstrip(": ")
    )
