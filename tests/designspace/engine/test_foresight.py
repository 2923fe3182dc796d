"""What later queries attend to, against transformers' own attention weights; and the text that the full cache writes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers import AutoModelForCausalLM

from designspace.engine.foresight import at_positions, full_cache_text, future_attention
from designspace.models.loading import LoadedModel
from tests.conftest import toy_model

TEXT = tuple(int(x) for x in torch.randint(5, 60, (23,), generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A random model with groups of two query heads."""
    return toy_model()


def plain(loaded: LoadedModel) -> torch.nn.Module:
    """The same model with transformers' eager attention."""
    model = AutoModelForCausalLM.from_config(
        deepcopy(loaded.model.config), attn_implementation="eager", dtype=torch.float32
    )
    model.load_state_dict(loaded.model.state_dict())
    return model.eval()


@torch.inference_mode()
def test_each_entry_is_the_largest_weight_of_the_queries_to_come(loaded: LoadedModel) -> None:
    """Element by element, with transformers' weights [1,H_q,T,T]."""
    found = future_attention(loaded, loaded.geometry, None, TEXT)
    weights = plain(loaded)(torch.tensor([TEXT]), output_attentions=True).attentions
    group, n = loaded.geometry.group, len(TEXT)
    assert (len(weights), loaded.geometry.n_kv_heads, n + 1, n) == found.shape
    for layer, of_layer in enumerate(weights):
        for head in range(loaded.geometry.n_kv_heads):
            mine = of_layer[0, head * group : (head + 1) * group]  # [G,T,T]
            for start in range(n):
                expected = mine[:, start:].amax(dim=(0, 1))
                torch.testing.assert_close(found[layer, head, start], expected, atol=1e-5, rtol=1e-4)
    assert 0.0 == float(found[:, :, n].abs().max())


@torch.inference_mode()
def test_the_text_is_what_transformers_writes(loaded: LoadedModel) -> None:
    """Greedy, for as many tokens as asked for."""
    model = plain(loaded)
    expected = model.generate(
        torch.tensor([TEXT[:9]]), do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0
    )
    text = full_cache_text(loaded, TEXT[:9], 12)
    assert expected[0, 9 : 9 + len(text)].tolist() == list(text)
    assert len(text) == 12 or text[-1] in loaded.eos_ids


def test_what_is_unknown_or_free_counts_nothing() -> None:
    """Free slots, tokens beyond the known text, and everything once the text is over."""
    future = torch.arange(1.0, 1 + 2 * 1 * 4 * 3).view(2, 1, 4, 3)  # [L,H,T+1,T], T = 3
    positions = torch.tensor([[[2, 0, -1, 5]], [[1, -1, 4, 2]]])  # [L,H,C]
    at_one = at_positions(future, 1, positions)
    assert [[[6.0, 4.0, 0.0, 0.0]], [[17.0, 0.0, 0.0, 18.0]]] == at_one.tolist()
    assert torch.equal(at_positions(future, 3, positions), at_positions(future, 9, positions))
