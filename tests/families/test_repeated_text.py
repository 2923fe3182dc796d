"""KVzip's scores against attention computed query by query from the model's own queries, keys, values and weights."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Needs
from designspace.cache.prefill_pass import PrefillPass
from designspace.models.calibration import Corpus
from families.calibrations.repeated_text import PIECE, examples_of
from tests.conftest import toy_model


@pytest.mark.parametrize("owners", [None, [0, 0]], ids=["own caches", "shared"])
def test_scores(owners: list[int] | None) -> None:
    """The largest weight over the second copy's queries and the group; where layers share a cache, over both."""
    loaded = toy_model("llama", **({} if owners is None else {"kv_owners": owners}))
    geometry, n = loaded.geometry, 17
    random = torch.Generator().manual_seed(3)
    ids = tuple(torch.randint(2, 97, (n,), generator=random).tolist())
    read: list[torch.Tensor] = []
    handles = [
        layer.self_attn.q_proj.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
        for layer in loaded.model.model.layers
    ]
    queries: dict[int, torch.Tensor] = {}

    class Queries(PrefillPass):
        """Keeps the queries of every layer."""

        def attend(self, call, query, key, value):  # type: ignore[no-untyped-def]
            queries[call.layer] = query[0].double()
            return super().attend(call, query, key, value)

    with torch.inference_mode():
        seen = Queries(Needs(), geometry, 2 * n, loaded.kv_owners)
        loaded.forward(seen, input_ids=torch.tensor([ids + ids]))
        text = seen.prompt()
        for handle in handles:
            handle.remove()
        found = examples_of(loaded, Corpus((ids,), (), "random tokens"))

    attention, added = torch.zeros(2, *found.attention.shape, dtype=torch.float64)
    for layer, module in enumerate(loaded.model.model.layers):
        owner = layer if owners is None else owners[layer]
        index = owner if owners is None else 0
        projection = module.self_attn.o_proj.weight.double()  # [hidden, H_q D]
        for query_head in range(geometry.n_query_heads):
            head = query_head // geometry.group
            keys, values = text.keys[index, 0, head].double(), text.values[index, 0, head].double()
            columns = projection[:, query_head * geometry.head_dim : (query_head + 1) * geometry.head_dim]
            for t in range(n, 2 * n):
                weights = torch.softmax(keys[: t + 1] @ queries[layer][query_head, t] * geometry.head_dim**-0.5, dim=0)
                for i in range(n):
                    moved = float((columns @ values[i]).norm()) / float(read[layer][0, t].double().norm())
                    attention[owner, head, i] = max(attention[owner, head, i], weights[i])
                    added[owner, head, i] = max(added[owner, head, i], weights[i] * moved)
    assert torch.allclose(found.attention.double(), attention, atol=1e-5)
    assert torch.allclose(found.added.double(), added, atol=1e-5)
    assert torch.allclose(found.inputs[:, :n], torch.stack([x[0, :n] for x in read]), atol=1e-5)
    assert found.begins.tolist() == [True] + [False] * (n - 1)


def test_long_texts_are_cut_and_short_ends_left_out() -> None:
    """Each piece is repeated by itself."""
    loaded = toy_model()
    random = torch.Generator().manual_seed(3)
    ids = tuple(torch.randint(2, 97, (PIECE + 20 + PIECE + 3,), generator=random).tolist())
    with torch.inference_mode():
        found = examples_of(loaded, Corpus((ids[: PIECE + 20], ids[PIECE + 20 :], ids[:5]), (), "random tokens"))
    assert found.begins.nonzero().flatten().tolist() == [0, PIECE, PIECE + 20]
    assert found.inputs.shape[1] == found.attention.shape[-1] == 2 * PIECE + 20
