"""Models trained with cross-layer attention: the configuration says who shares, and the cache holds owners only."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Budget, Request
from designspace.engine import Engine
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import toy_model

OWNERS = (0, 1, 1)


def sharing_model() -> LoadedModel:
    """Three layers, of which the last reads the second one's keys and values."""
    loaded = toy_model("llama", layers=3)
    loaded.model.config.kv_owners = list(OWNERS)
    return loaded


def naive_logits(loaded: LoadedModel, ids: list[int]) -> Tensor:
    """The forward pass written out: plain causal attention per layer, keys and values from the owner. [T,V]."""
    model, geometry = loaded.model, loaded.geometry
    n, d = len(ids), geometry.head_dim
    hidden = model.model.embed_tokens(torch.tensor(ids))
    angle = torch.arange(n)[:, None] * geometry.inv_freq[None]
    cos, sin = (torch.cat([f(angle)] * 2, dim=-1) for f in (torch.cos, torch.sin))

    def rotated(x: Tensor) -> Tensor:
        return x * cos[:, None] + torch.cat([-x[..., d // 2 :], x[..., : d // 2]], dim=-1) * sin[:, None]

    held: dict[int, tuple[Tensor, Tensor]] = {}
    for index, layer in enumerate(model.model.layers):
        normed = layer.input_layernorm(hidden)
        project = layer.self_attn
        query = rotated(project.q_proj(normed).view(n, -1, d))
        if OWNERS[index] == index:
            held[index] = (
                rotated(project.k_proj(normed).view(n, -1, d)), project.v_proj(normed).view(n, -1, d)
            )  # fmt: skip
        keys, values = held[OWNERS[index]]
        outputs = []
        for head in range(geometry.n_query_heads):
            logits = query[:, head] @ keys[:, head // geometry.group].T / d**0.5
            logits = logits.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
            outputs.append(torch.softmax(logits, dim=-1) @ values[:, head // geometry.group])
        hidden = hidden + project.o_proj(torch.stack(outputs, dim=1).flatten(1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    logits: Tensor = model.lm_head(model.model.norm(hidden))
    return logits


@torch.inference_mode()
def test_a_sharing_model_generates_as_its_definition_says() -> None:
    """Greedy tokens of the engine, prompt and decoding, against the written-out forward pass."""
    loaded = sharing_model()
    prompt = [5, 9, 30, 2, 77, 41, 12]
    arm = mechanism("full").override("full", decoding=Greedy())
    engine = Engine(loaded, arm, None, rows=2, max_new_tokens=12, max_prompt_tokens=10)
    (done,) = engine.generate([Request("a", tuple(prompt), bytes(16))])

    text = list(prompt)
    for token in done.token_ids:
        assert token == int(naive_logits(loaded, text)[-1].argmax())
        text.append(token)


def test_a_sharing_model_holds_owners_only() -> None:
    """Two of three layers: two thirds of the bytes, and the budget counts tokens per owned cache."""
    arm = mechanism("tova").override("tova", decoding=Greedy())
    held = {}
    for name, loaded in (("own", toy_model("llama", layers=3)), ("shared", sharing_model())):
        engine = Engine(loaded, arm, Budget(8), rows=1, max_new_tokens=20, max_prompt_tokens=12)
        (held[name],) = engine.generate([Request("a", tuple(range(2, 14)), bytes(16))])

    assert held["shared"].cache_tokens_per_step == held["own"].cache_tokens_per_step
    assert held["shared"].mean_cache_bytes * 3 == held["own"].mean_cache_bytes * 2
