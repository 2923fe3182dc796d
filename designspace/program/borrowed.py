"""A model of transformers under our attention for a while, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from designspace.cache.attention import IMPLEMENTATION
from designspace.models.loading import EXPERTS, LoadedModel, prepare


@contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """Give back a model's modes, gradients, attention and experts as they were, whatever happens within."""
    training = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    attention = model.config._attn_implementation
    experts = getattr(model.config, "_experts_implementation", None)
    try:
        yield
    finally:
        for module, was in training:
            module.training = was
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)
        model.set_attn_implementation(attention)
        if experts is not None:
            model.set_experts_implementation(experts)


def tried_out(model: Any, tokenizer: Any) -> LoadedModel:
    """Return a model as the engine needs to know it, and leave the model itself as it was.

    Raises:
        ModelError: of a kind that the slot cache does not support.
    """
    with borrowed(model):
        return prepare(model, tokenizer)


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """Have a model that was tried out attend through the slot cache."""
    with borrowed(model):
        model.eval()
        if hasattr(model.config, "_experts_implementation"):
            model.set_experts_implementation(EXPERTS)
        model.set_attn_implementation(IMPLEMENTATION)
        yield
