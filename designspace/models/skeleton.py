"""A model without its weights: shapes, tokenizer and a forward pass on the `meta` device, which computes nothing."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from designspace.errors import ModelError
from designspace.models import loading
from designspace.models.loading import LoadedModel
from designspace.models.model_spec import ModelSpec

_skeletons: WeakKeyDictionary[Any, LoadedModel] = WeakKeyDictionary()


@cache
def load_skeleton(spec: ModelSpec) -> LoadedModel:
    """Return a model by its configuration and tokenizer; of a hub model nothing else is fetched.

    Raises:
        ModelError: they are not there, or not those of a model that the slot cache supports.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    source, where = (spec.path, {}) if spec.path else (spec.hub, {"revision": spec.revision or "main"})
    if source is None:
        raise ModelError(f"model {spec.name!r} needs a hub repository or a local path")
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        tokenizer = loading.load_tokenizer(source, where)
        return _bare(config, getattr(torch, spec.dtype), tokenizer, spec)
    except (OSError, ValueError, StrictDataclassError) as error:
        first, *more = str(error).splitlines()
        reason = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
        raise ModelError(f"cannot read the shape of model {spec.name!r} from {source}: {reason}") from error


def skeleton_of(loaded: LoadedModel) -> LoadedModel:
    """Return a loaded model's shape, the same one every time; a skeleton is its own."""
    if loaded.device.type == "meta":
        return loaded
    if loaded.model not in _skeletons:
        config = copy.deepcopy(loaded.model.config)
        _skeletons[loaded.model] = _bare(config, loaded.dtype, loaded.tokenizer, loaded.spec)
    return _skeletons[loaded.model]


def weight_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of a model's weights and buffers; tied weights count once."""
    return sum(tensor.nbytes for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))


def _bare(config: Any, dtype: torch.dtype, tokenizer: Any, spec: ModelSpec | None) -> LoadedModel:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    rotary = getattr(model.model, "rotary_emb", None)
    if rotary is not None:
        model.model.rotary_emb = type(rotary)(config)  # its frequencies are part of the geometry, so they must be real
    loaded = loading.prepare(model, tokenizer, spec)
    model.to("meta")
    return loaded
