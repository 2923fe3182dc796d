"""DuoAttention at a bounded budget: sizes, streaming heads, and the gate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import Artefact, Geometry, Mechanism, View
from designspace.engine.compress import compress
from designspace.errors import DeclarationError
from designspace.models.calibration import Corpus
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.calibrations.duo_calibration import Means, gate_of, last_row_logits, measure
from families.head_routing.duo import ARTEFACT, Duo
from families.representation.full import FullPrecision
from families.scoring.knorm import KNorm
from tests.conftest import toy_model


def view_with(gate: torch.Tensor, n_slots: int = 40, rows: int = 1, **extra: object) -> View:
    """Return an event on a model with these gates [L,H_kv]."""
    keys = torch.randn(gate.shape[0], rows, gate.shape[1], n_slots, 4, generator=torch.Generator().manual_seed(5))
    return view_of(keys, artefacts={ARTEFACT: Artefact(ARTEFACT, {"gate": gate})}, **extra)  # type: ignore[arg-type]


def shares(routing: Duo, view: View, *target: int) -> list[list[list[int]]]:
    """Return the shares [L,E,H_kv]."""
    return routing.allocate(view, torch.zeros(view.positions.shape), torch.tensor(target)).tolist()


def test_duo_r5() -> None:
    """b=512, rho=.25, s+r=128: retrieval heads get 1664, the mean is 512."""
    gate = torch.tensor([[0.2, 0.9], [0.4, 0.3]])
    found = shares(Duo(retrieval=0.25, stream=0.25), view_with(gate), 512)

    assert found == [[[128, 1664]], [[128, 128]]]


def test_all_heads_retrieving_is_uniform() -> None:
    """Rho 1, and streaming heads as large as the mean."""
    view = view_with(torch.rand(2, 3, generator=torch.Generator().manual_seed(0)))

    assert shares(Duo(retrieval=1.0), view, 48) == [[[48] * 3]] * 2
    assert shares(Duo(stream=1.0), view, 48) == [[[48] * 3]] * 2


def test_ties_go_to_the_lower_head() -> None:
    """Four equal gates, two places."""
    view = view_with(torch.full((2, 2), 0.5))

    assert shares(Duo(retrieval=0.5, stream=0.25), view, 40) == [[[70, 70]], [[10, 10]]]


def test_a_streaming_head_holds_its_sinks_and_what_is_protected() -> None:
    """A quarter of 12 is 3: fewer than four sinks and a token; with ten protected, ten; never more than the mean."""
    gate = torch.tensor([[0.9, 0.1]])

    assert shares(Duo(), view_with(gate), 12) == [[[19, 5]]]
    assert shares(Duo(), view_with(gate, sinks=2, recent=8), 12) == [[[14, 10]]]
    assert shares(Duo(), view_with(gate), 3) == [[[3, 3]]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    retrieval=st.floats(0.01, 1.0),
    stream=st.floats(0.01, 1.0),
    sinks=st.integers(0, 6),
    target=st.integers(4, 200),
)
def test_totals_are_exact(seed: int, retrieval: float, stream: float, sinks: int, target: int) -> None:
    """Every row's total is target * L * H, and no share is above what is announced."""
    gate = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed))
    routing, view = Duo(retrieval=retrieval, stream=stream, sinks=sinks), view_with(gate, rows=2, recent=3)
    found = shares(routing, view, target, target + 7)

    for row, size in enumerate((target, target + 7)):
        flat = [found[layer][row][head] for layer in range(3) for head in range(4)]
        assert sum(flat) == size * 12
        assert max(flat) <= routing.largest_share(size, view.geometry, 3)
        assert min(flat) >= min(size, sinks + 1, 3)


def test_streaming_heads_keep_first_and_newest_tokens() -> None:
    """The retrieval head keeps the best keys, the streaming head sinks 0 … 3 and the newest."""
    view = view_with(torch.tensor([[0.1, 0.9]]), n_slots=40, target=20)
    kept = compress(Mechanism("test", KNorm(), Duo(), EveryK(), FullPrecision()), view)
    positions = [kept.order[0, 0, head, : int(kept.counts[0, 0, head])].tolist() for head in range(2)]

    assert positions[0] == [0, 1, 2, 3, 39]
    norms = view.keys[0, 0, 1].norm(dim=-1).tolist()
    assert positions[1] == sorted(sorted(range(40), key=lambda i: norms[i])[:35])


def test_sinks_outlast_everything_where_slots_are_few() -> None:
    """A streaming head with two slots keeps the first two positions, whatever the scores."""
    view = view_with(torch.tensor([[0.9, 0.1]]), n_slots=9)
    scores = Duo().adapt(view, torch.randn(1, 1, 2, 9) * 1e6)[0, 0, 1]

    assert scores.argsort(descending=True).tolist() == [0, 1, 2, 3, 8, 7, 6, 5, 4]


@pytest.mark.parametrize("wrong", [{"retrieval": 0.0}, {"retrieval": 1.5}, {"stream": 0.0}, {"sinks": -1}], ids=str)
def test_parameters_are_checked(wrong: dict[str, float]) -> None:
    """The message names the parameter."""
    with pytest.raises(DeclarationError, match=f"{next(iter(wrong))} must .*got {next(iter(wrong))}="):
        Duo(**wrong)  # type: ignore[arg-type]


def test_even_attention_has_gate_one_half() -> None:
    """(n + 1) / 2n, as the vector has it; all on the first position is 1, all on the newest 1/n."""
    first = torch.full((1, 2, 500), -1e4)
    newest = first.clone()
    first[..., 0], newest[..., -1] = 0, 0

    assert gate_of(torch.zeros(1, 2, 500), 2).tolist() == [[pytest.approx(501 / 1000)]]
    assert gate_of(first, 2).tolist() == [[pytest.approx(1.0)]]
    assert gate_of(newest, 1).tolist() == [[pytest.approx(1 / 500)] * 2]


def test_gates_of_texts_are_averaged_not_their_queries() -> None:
    """One slow band, a text of queries and keys 2 and one of -2: the same gate twice, though both means are zero."""
    geometry = Geometry(1, 1, 1, 2, torch.tensor([0.003]))
    gates = []
    for x in (2.0, -2.0):
        means = Means(torch.full((1, 1, 1), x, dtype=torch.complex128), torch.zeros(1, 1, 0, dtype=torch.float64))
        gates.append(float(gate_of(last_row_logits(means, means, geometry, 500) / 2**0.5, 1)))

    assert gates == [pytest.approx(0.32200, abs=5e-6)] * 2
    logits = [4 * math.cos(0.003 * (499 - i)) for i in range(500)]
    for scale, expected in ((2**0.5, 0.32200), (1.0, 0.27705), (math.inf, 0.50100)):
        weights = [math.exp((logit - 4) / scale) for logit in logits]
        early = [sum(weights[: i + 1]) / sum(weights) for i in range(500)]
        assert sum(early) / 500 == pytest.approx(expected, abs=5e-6)


FAMILIES = {
    "llama": {},
    "qwen3": {},
    "phi3": {"partial_rotary_factor": 0.5},
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128,
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FAMILIES)
def test_gate_is_that_of_the_mean_query_and_key(case: str) -> None:
    """Means of the projections' own outputs, placed at 500 positions by the model's own rotation, text by text."""
    from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

    loaded = toy_model(case if case != "yarn" else "llama", **FAMILIES[case])  # type: ignore[arg-type]
    geometry = loaded.geometry
    texts = tuple(tuple((i * 5 + j * j * 3) % 90 + 2 for j in range(n)) for i, n in enumerate((33, 20)))
    found = measure(loaded, Corpus(texts, (), "test"))["gate"]

    queries, keys = _projections(loaded, texts)
    cos, sin = loaded.model.model.rotary_emb(torch.zeros(1, 500, 1), torch.arange(500)[None])
    for layer in range(geometry.n_layers):
        gates = []
        for head in range(geometry.n_query_heads):
            of_texts = []
            for text in range(len(texts)):
                q = queries[layer][text][:, head].mean(dim=0).expand(1, 1, 500, -1)
                k = keys[layer][text][:, head // geometry.group].mean(dim=0).expand(1, 1, 500, -1)
                q, k = apply_rotary_pos_emb(q, k, cos, sin)
                weights = (k[0, 0] @ q[0, 0, -1] / geometry.head_dim**0.5).softmax(dim=0).tolist()
                of_texts.append(sum(sum(weights[: i + 1]) for i in range(500)) / 500)
            gates.append(sum(of_texts) / len(texts))
        per_group = [sum(gates[h : h + geometry.group]) / geometry.group for h in range(0, len(gates), geometry.group)]
        assert found[layer].tolist() == pytest.approx(per_group, abs=2e-5)


def _projections(
    loaded: object, texts: tuple[tuple[int, ...], ...]
) -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]]]:
    """Return pre-RoPE queries and keys per layer and text, [tokens, heads, D], caught on their way out of the projections."""
    from designspace.axes import Needs
    from designspace.cache.prefill_pass import PrefillPass

    model, geometry = loaded.model, loaded.geometry  # type: ignore[attr-defined]
    n_query, dim = geometry.n_query_heads * geometry.head_dim, geometry.head_dim
    queries: list[list[torch.Tensor]] = [[] for _ in range(geometry.n_layers)]
    keys: list[list[torch.Tensor]] = [[] for _ in range(geometry.n_layers)]
    handles = []
    for layer, block in enumerate(model.model.layers):
        attention = block.self_attn
        if hasattr(attention, "qkv_proj"):

            def split(_: object, __: object, out: torch.Tensor, layer: int = layer) -> None:
                n_key = geometry.n_kv_heads * dim
                queries[layer].append(out[0, :, :n_query].unflatten(-1, (-1, dim)))
                keys[layer].append(out[0, :, n_query : n_query + n_key].unflatten(-1, (-1, dim)))

            handles.append(attention.qkv_proj.register_forward_hook(split))
            continue
        named = ("q_norm", "k_norm") if hasattr(attention, "q_norm") else ("q_proj", "k_proj")
        for name, into in zip(named, (queries, keys), strict=True):

            def take(_: object, __: object, out: torch.Tensor, into: list[torch.Tensor] = into[layer]) -> None:
                into.append(out[0] if out.dim() == 4 else out[0].unflatten(-1, (-1, dim)))

            handles.append(getattr(attention, name).register_forward_hook(take))
    for ids in texts:
        model(input_ids=torch.tensor([ids]), use_cache=False, slots=PrefillPass(Needs(), geometry, len(ids)))
    for handle in handles:
        handle.remove()
    return queries, keys
