"""Whatever a person means by a model, ready for the engine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from designspace.errors import DeclarationError, ModelError, did_you_mean
from designspace.models.loading import LoadedModel, load_model, prepare
from designspace.models.model_spec import ModelSpec, bundled_names

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

Dtype = Literal["float32", "bfloat16"]


def load(
    model: Any,
    tokenizer: Any = None,
    *,
    dtype: Dtype | None = None,
    device: str | None = None,
    revision: str | None = None,
) -> LoadedModel:
    """Return a model ready for `generate` and `compress`; it is tried out once, against its own attention.

    A model of transformers that is in memory already is put under this package's attention for good, without gradients; to have
    it back as it was, use `compress` alone.

    Args:
        model: the name of a bundled model, a folder, a hub repository (`org/name`), a `ModelSpec`, a model of transformers, or
            what this function has returned.
        tokenizer: of a model of transformers; without one its prompts are token ids, and its texts are empty.
        dtype: "float32" (the default) or "bfloat16"; of weights and cache. A model in memory has its own.
        device: such as "cuda"; "cpu" by default. A model in memory stays where it is.
        revision: of a hub repository.

    Raises:
        ModelError: it is not there, not in safetensors form, or of a kind that the slot cache does not support; of an unknown
            name the message has the nearest that is known.
        DeclarationError: an argument that means nothing for such a model.
    """
    if isinstance(model, str | Path):
        return load_model(_spec_of(model, dtype or "float32", revision), device or "cpu")
    given = {"dtype": dtype, "device": device, "revision": revision}
    if isinstance(model, ModelSpec):
        _refuse(given, ("dtype", "revision"), "a ModelSpec names its own")
        return load_model(model, device or "cpu")
    _refuse(given, tuple(given), "the model is in memory already")
    if isinstance(model, LoadedModel):
        return model if tokenizer is None else replace(model, tokenizer=tokenizer)
    check_in_memory(model)
    return prepare(model, tokenizer)


def check_in_memory(model: Any) -> None:
    """Check that something is a model of transformers.

    Raises:
        ModelError: naming what it is instead.
    """
    if not (hasattr(model, "set_attn_implementation") and hasattr(model, "generate")):
        raise ModelError(
            "a model must be the name of a bundled one, a folder, a hub repository, a ModelSpec or a causal language model of"
            f" transformers, got {type(model).__name__}"
        )


def _refuse(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if given[name] is not None:
            raise DeclarationError(f"{name} cannot be chosen here, as {why}, got {name}={given[name]!r}")


def _spec_of(model: str | Path, dtype: Dtype, revision: str | None) -> ModelSpec:
    """Return the model that a name means: a bundled one, else a folder that is there, else a hub repository.

    Raises:
        ModelError: it can be none of them, or has a revision and is no hub repository.
    """
    name, folder = str(model), Path(model).expanduser()
    if isinstance(model, str) and name in bundled_names():
        spec = ModelSpec.bundled(name, dtype=dtype)
    elif folder.is_dir():
        spec = ModelSpec(folder.resolve().name, path=str(folder), dtype=dtype)
    elif isinstance(model, str) and _HUB_NAME.fullmatch(name) and not name.startswith("."):
        return ModelSpec(name.rpartition("/")[2], hub=name, revision=revision, dtype=dtype)
    else:
        known = did_you_mean(name, bundled_names())
        raise ModelError(f"no bundled model, folder or hub repository is called {name!r}{known}")
    if revision is not None:
        raise ModelError(f"only a hub repository has a revision, got revision={revision!r} for {name!r}")
    return spec
