"""A model without its weights: shapes, tokenizer and a forward pass on the `meta` device, which computes nothing."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from designspace.errors import ModelError
from designspace.models import loading
from designspace.models.config_file import bare_model, config_of, configuration_of, one_line
from designspace.models.gguf_import import ensure_imported
from designspace.models.loading import LoadedModel
from designspace.models.model_spec import ModelSpec
from designspace.models.quantization import bytes_saved, largest_copy
from designspace.models.tokenizer import tokenizer_of

_skeletons: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()


@cache
def load_skeleton(spec: ModelSpec) -> LoadedModel:
    """Return a model by its configuration and tokenizer; of a hub model nothing else is fetched.

    Raises:
        ModelError: they are not there, or not those of a model that the slot cache supports.
    """
    ensure_imported(spec)
    config = configuration_of(spec)
    return _bare(config, getattr(torch, spec.dtype), tokenizer_of(spec), spec)


def skeleton_of(loaded: LoadedModel) -> LoadedModel:
    """Return a loaded model's shape, the same one every time; a skeleton is its own."""
    if loaded.device.type == "meta":
        return loaded
    if loaded.model not in _skeletons:
        config = copy.deepcopy(loaded.model.config)
        if _quantization(loaded) is not None:
            vars(config).pop("quantization_config", None)  # as it was before transformers quantised the weights
        _skeletons[loaded.model] = _bare(config, loaded.dtype, loaded.tokenizer, loaded.spec)
    return _skeletons[loaded.model]


def weight_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of a model's weights and buffers; tied weights count once, and quantised ones as what they hold."""
    shown = sum(x.numel() * x.dtype.itemsize for x in (*loaded.model.parameters(), *loaded.model.buffers()))
    return shown - bytes_saved(loaded.model, _quantization(loaded))


def copied_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of the largest quantised layer's weights in the model's type, of which one is made at a time."""
    return largest_copy(loaded.model, _quantization(loaded))


def _quantization(loaded: LoadedModel) -> str | None:
    return None if loaded.spec is None else loaded.spec.quantization


def _bare(config: Any, dtype: torch.dtype, tokenizer: Any, spec: ModelSpec | None) -> LoadedModel:
    model = bare_model(config, dtype, "the configuration" if spec is None else config_of(spec))
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if rotary is not None:
        model.model.rotary_emb = _real(rotary, config)
    loaded = loading.prepare(model, tokenizer, spec)
    model.to("meta")
    return loaded


def _real(rotary: Any, config: Any) -> Any:
    """Return a rotary embedding with numbers in it: its frequencies are part of the geometry."""
    try:
        return type(rotary)(config)
    except Exception as error:  # transformers' own class, which checks nothing of what it is given
        raise ModelError(f"model type {config.model_type!r} is not supported: {one_line(error)}") from error
