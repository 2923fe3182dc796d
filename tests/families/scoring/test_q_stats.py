"""TriAttention on statistics of the model's own texts: how these are made, and that the scoring reads them."""

from __future__ import annotations

import pytest
import torch

import families.calibrations.q_stats_calibration as q_stats_calibration
from designspace.axes import Artefact, Budget, Geometry, Mechanism
from designspace.axes.rotary import as_bands, unrotate
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import cases, check_mechanism, check_strategy
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.calibrations.q_stats_calibration import measure, traces
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.q_stats import QStats
from families.scoring.triattention import TriAttention
from tests.conftest import toy_model, toy_statistics

N_NEW = 9
PROMPTS = tuple(tuple(range(start, start + length)) for start, length in ((3, 7), (40, 18), (60, 2), (70, 12)))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a few tokens only."""
    monkeypatch.setattr(q_stats_calibration, "MAX_NEW_TOKENS", N_NEW)
    monkeypatch.setattr(q_stats_calibration, "_ROWS", 3)


def greedy(loaded: LoadedModel, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """The prompt and the likeliest tokens after it, each from a forward pass over the whole text."""
    text = prompt
    for _ in range(N_NEW):
        text += (int(forward(loaded, text, [])[-1].argmax()),)
    return text


def forward(loaded: LoadedModel, text: tuple[int, ...], queries: list[torch.Tensor]) -> torch.Tensor:
    """Logits [T,V] by plain causal attention, token by token in the softmax; queries [H_q,T,D] are added layer by layer."""

    class Plain:
        def attend(self, call, query, key, value):  # type: ignore[no-untyped-def]
            queries.append(query[0])
            group = query.shape[1] // key.shape[1]
            logits = query[0] @ key[0].repeat_interleave(group, 0).mT * call.scaling
            future = torch.ones(len(text), len(text)).triu(1).bool()
            weights = torch.softmax(logits.masked_fill(future, float("-inf")), dim=-1)
            return (weights @ value[0].repeat_interleave(group, 0)).transpose(0, 1)[None]

    with torch.inference_mode():
        output = loaded.model(input_ids=torch.tensor([text]), use_cache=False, slots=Plain())
    return output.logits[0]


def test_traces_are_what_the_model_writes(toy_llama: LoadedModel) -> None:
    """More prompts than rows: each in its place, followed by its own greedy text."""
    assert list(traces(toy_llama, PROMPTS)) == [greedy(toy_llama, prompt) for prompt in PROMPTS]


def test_statistics_against_a_loop(toy_llama: LoadedModel) -> None:
    """Mean and mean modulus of the pre-RoPE bands over prompts and generated tokens, texts weighing by their length."""
    geometry = toy_llama.geometry
    bands: list[list[torch.Tensor]] = [[] for _ in range(geometry.n_layers)]
    for prompt in PROMPTS:
        queries: list[torch.Tensor] = []
        text = greedy(toy_llama, prompt)
        forward(toy_llama, text, queries)
        for layer, query in enumerate(queries):
            bands[layer].append(unrotate(as_bands(query), torch.arange(len(text)), geometry))
    with torch.inference_mode():
        found = measure(toy_llama, Corpus(texts=((1, 2, 3),), prompts=PROMPTS, source="test"))

    for layer in range(geometry.n_layers):
        whole = torch.cat(bands[layer], dim=1)  # [H_q, tokens, D/2]
        torch.testing.assert_close(found["q_mean_real"][layer], whole.real.mean(dim=1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found["q_mean_imag"][layer], whole.imag.mean(dim=1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found["q_abs_mean"][layer], whole.abs().mean(dim=1), atol=1e-4, rtol=1e-4)


def test_the_corpus_texts_do_not_matter(toy_llama: LoadedModel) -> None:
    """Only what the model writes itself counts; twice the same numbers."""
    with torch.inference_mode():
        one = measure(toy_llama, Corpus(((1, 2, 3),), PROMPTS[:2], "test"))
        other = measure(toy_llama, Corpus(((9, 8, 7, 6),), PROMPTS[:2], "test"))
        third = measure(toy_llama, Corpus(((9, 8, 7, 6),), PROMPTS[1:], "test"))

    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["q_abs_mean"], third["q_abs_mean"])


def test_plain_text_is_refused(toy_llama: LoadedModel) -> None:
    """Without problems there is nothing to write."""
    with pytest.raises(CalibrationError, match=r"'q-stats-reasoning' needs problems .* plain text \(notes\.txt\)"):
        measure(toy_llama, Corpus(((1, 2, 3),), (), "notes.txt"))


def test_partial_rotary_is_refused_before_writing() -> None:
    """A model that the statistics are not defined for."""
    loaded = toy_model("phi3", partial_rotary_factor=0.5)

    with pytest.raises(CalibrationError, match="rotate"):
        measure(loaded, Corpus(((1, 2, 3),), PROMPTS, "test"))


def test_scores_are_triattention_on_the_other_artefact() -> None:
    """Same formula; each reads its own statistics."""
    case = next(iter(cases()))
    geometry = case.view.geometry
    generator = torch.Generator().manual_seed(5)
    shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
    made = [
        {name: torch.randn(shape, generator=generator).abs() for name in ("q_mean_real", "q_mean_imag", "q_abs_mean")}
        for _ in range(2)
    ]
    keys = torch.randn(*case.view.keys.shape[:3], 12, geometry.head_dim, generator=generator)

    def view(plain: int, reasoning: int):  # type: ignore[no-untyped-def]
        artefacts = {
            "q-stats": Artefact("q-stats", made[plain]),
            "q-stats-reasoning": Artefact("q-stats-reasoning", made[reasoning]),
        }
        return view_of(keys, n_query_heads=geometry.n_query_heads, artefacts=artefacts, inv_freq=geometry.inv_freq)

    assert torch.equal(QStats().score(view(0, 1)), TriAttention().score(view(1, 0)))
    assert not torch.equal(QStats().score(view(0, 1)), TriAttention().score(view(0, 1)))
    assert QStats().needs().calibrations == ("q-stats-reasoning",)


def made_up(name: str, geometry: Geometry) -> Artefact:
    """Statistics of the right shapes under any name."""
    generator = torch.Generator().manual_seed(geometry.n_query_heads)
    shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
    return Artefact(
        name,
        {key: torch.randn(shape, generator=generator) for key in ("q_mean_real", "q_mean_imag")}
        | {"q_abs_mean": 2 * torch.ones(shape)},
    )


def test_conformance(toy_llama: LoadedModel) -> None:
    """The kit's checks, and the engine with an artefact that was measured."""
    check_strategy(QStats(), artefacts=made_up)
    with torch.inference_mode():
        tensors = measure(toy_llama, Corpus((), PROMPTS, "test"))
    mechanism = Mechanism("q-stats", QStats(), Uniform(), EveryK(k=8), FullPrecision())
    found = {"q-stats-reasoning": Artefact("q-stats-reasoning", tensors)}
    check_mechanism(mechanism, toy_llama, Budget(24), artefacts=found)


def test_the_usual_statistics_do_not_do(toy_llama: LoadedModel) -> None:
    """A run without the recalibrated artefact is refused."""
    from designspace.engine import Engine
    from families.decoding.greedy import Greedy

    mechanism = Mechanism("q-stats", QStats(), Uniform(), EveryK(k=8), FullPrecision(), Greedy())

    with pytest.raises(DeclarationError, match="q-stats-reasoning"):
        Engine(
            toy_llama, mechanism, Budget(24), rows=1, max_new_tokens=4, max_prompt_tokens=8,
            artefacts={"q-stats": toy_statistics(toy_llama)["q-stats"]},
        )  # fmt: skip
