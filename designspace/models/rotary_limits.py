"""Up to what length a model's rotary angles belong to a row alone."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch

from designspace.errors import ModelError


def longest_text(model: Any) -> int | None:
    """Return how many positions a text may have: as many as the model was trained for; None: it does not say.

    Raises:
        ModelError: its rotary angles depend on the longest text in a batch, whatever the length.
    """
    limits = (getattr(model.config, "max_position_embeddings", None), longest_free_position(model))
    return min((limit for limit in limits if limit is not None), default=None)


def longest_free_position(model: Any) -> int | None:
    """Return up to how many positions a row's rotary angles do not depend on its batch-mates; None: any number.

    Some scalings choose their frequencies by the longest position in a batch.

    Raises:
        ModelError: they depend on them within any length.
    """
    rotary, config = copy.deepcopy(model.model.rotary_emb), model.config
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None or not hasattr(rotary, "forward"):
        return None
    kinds = sorted(set(getattr(config, "layer_types", None) or ())) if _takes_layer_type(rotary) else [None]
    for limit in (4 * longest, longest, *_original_lengths(config)):
        if all(_same_angles(copy.deepcopy(rotary), kind, limit, config) for kind in kinds):
            return None if limit > longest else limit
    raise ModelError(
        f"model type {config.model_type!r} is not supported: its rotary angles depend on the longest text in a batch"
    )


def _takes_layer_type(rotary: Any) -> bool:
    return "layer_type" in inspect.signature(rotary.forward).parameters


def _original_lengths(config: Any) -> tuple[int, ...]:
    declared = getattr(config, "rope_parameters", None) or {}
    sets = [declared, *(value for value in declared.values() if isinstance(value, dict))]
    return tuple(
        {int(s["original_max_position_embeddings"]) for s in sets if s.get("original_max_position_embeddings")}
    )


def _same_angles(rotary: Any, kind: str | None, limit: int, config: Any) -> bool:
    x = torch.zeros(1, 1, config.hidden_size, device=next(rotary.buffers()).device)
    extra = {} if kind is None else {"layer_type": kind}
    alone = rotary(x, torch.tensor([[1]], device=x.device), **extra)
    together = rotary(x, torch.tensor([[1, limit - 1]], device=x.device), **extra)
    return all(torch.equal(a[:, :1], b[:, :1]) for a, b in zip(alone, together, strict=True))
