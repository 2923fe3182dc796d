"""Artefacts that share one look at the texts are those that each makes alone, and those of passes over one text at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes.rotary import as_bands, unrotate
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.models.calibrate import Job
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import Stage, listening
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.one_look import OnePass
from designspace.registry import calibration, calibrations

SPEC = ModelSpec.bundled("pocket-llama")
TOGETHER = tuple(name for name in calibrations() if isinstance(calibration(name), OnePass))


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """A bundled model."""
    return load_model(SPEC)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Texts of unlike lengths, of which the last is too short for some artefacts."""
    random = torch.Generator().manual_seed(0)
    return Corpus(tuple(tuple(torch.randint(4, 60, (n,), generator=random).tolist()) for n in (90, 64, 12)), (), "test")


def made(loaded: LoadedModel, corpus: Corpus, *names: str) -> dict[str, Any]:
    """Make artefacts in one job."""
    job = Job(SPEC, {name: calibration(name) for name in names}, corpus)
    return {artefact.name: artefact for artefact in job.made(loaded)}


def test_several_artefacts_cost_one_look(pocket: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model runs once over each text, and every number is the one that the artefact has alone."""
    alone = {name: made(pocket, corpus, name)[name].tensors for name in TOGETHER}
    seen: list[int] = []
    forward = LoadedModel.forward

    def counted(self: LoadedModel, slots: Pass, **arguments: Any) -> Any:
        seen.append(arguments["input_ids"].shape[1])
        return forward(self, slots, **arguments)

    monkeypatch.setattr(LoadedModel, "forward", counted)
    together = made(pocket, corpus, *TOGETHER)

    assert seen == [90, 64, 12]
    assert set(TOGETHER) == together.keys() == {
        *("q-stats", "v-pca", "kvquant", "head-importance", "route", "kv-tuner", "duo-gate"),
    }  # fmt: skip
    for name, tensors in alone.items():
        assert tensors.keys() == together[name].tensors.keys()
        assert all(torch.equal(tensor, together[name][key]) for key, tensor in tensors.items()), name


class _Everything(Pass):
    """Keeps every layer's queries and values of one text."""

    def __init__(self) -> None:
        self.queries: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep, and attend."""
        self.queries.append(query[0])
        self.values.append(value[0])
        return causal_attention(query, key, value, call).transpose(1, 2)


def test_sums_are_those_of_all_tokens_kept_at_once(pocket: LoadedModel, corpus: Corpus) -> None:
    """The slow way: everything is held, and averaged at the end; layer by layer, head by head."""
    texts = []
    for ids in corpus.texts:
        seen = _Everything()
        with torch.inference_mode():
            pocket.forward(seen, input_ids=torch.tensor([ids]), logits_to_keep=1)
        texts.append(seen)
    found = made(pocket, corpus, "q-stats", "v-pca")

    for layer in range(pocket.geometry.n_layers):
        turned = [
            unrotate(as_bands(t.queries[layer]), torch.arange(t.queries[layer].shape[1]), pocket.geometry)
            for t in texts
        ]
        bands = torch.cat(turned, dim=1).to(torch.complex128)
        assert torch.allclose(found["q-stats"]["q_mean_real"][layer].double(), bands.mean(1).real, atol=1e-6)
        assert torch.allclose(found["q-stats"]["q_mean_imag"][layer].double(), bands.mean(1).imag, atol=1e-6)
        assert torch.allclose(found["q-stats"]["q_abs_mean"][layer].double(), bands.abs().mean(1), rtol=1e-6)
        values = torch.cat([t.values[layer] for t in texts], dim=1).double()
        assert torch.allclose(found["v-pca"]["mean"][layer].double(), values.mean(1), atol=1e-6)
        variances = torch.stack([torch.linalg.svdvals(v - v.mean(0)).square() / len(v) for v in values])
        basis = found["v-pca"]["basis"][layer].double()
        projected = (values - values.mean(1, keepdim=True)) @ basis
        assert torch.allclose(projected.square().mean(1), variances, atol=1e-4)


def test_an_artefact_says_what_it_was_measured_on(pocket: LoadedModel, corpus: Corpus) -> None:
    """Another cut of the same tokens is another text; the name alone is not the text."""
    (artefact,) = made(pocket, corpus, "v-pca").values()
    cut = corpus._replace(texts=(corpus.texts[0][:40], corpus.texts[0][40:], *corpus.texts[1:]))

    assert (artefact.source, artefact.n_tokens, artefact.dtype) == ("test", 166, "float32")
    assert artefact.text == corpus._replace(source="renamed").digest() != cut.digest()
    assert artefact.text != corpus._replace(prompts=((4,),)).digest()


def test_stages_are_told_from_beginning_to_end(pocket: LoadedModel, corpus: Corpus) -> None:
    """Tokens while texts are read; nobody listens afterwards."""
    told: list[Stage] = []
    with listening(told.append):
        made(pocket, corpus, "v-pca", "kvquant")
    n_told = len(told)
    made(pocket, corpus, "v-pca")

    read = [stage.n_done for stage in told if stage.what == "reading"]
    assert read == [0, 90, 154, 166]
    assert {(stage.unit, stage.n_total) for stage in told} == {("tokens", 166), ("layers", pocket.geometry.n_layers)}
    assert len(told) == n_told
