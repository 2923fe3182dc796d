"""Every registered strategy, and every system of the catalogue, passes the public kit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from designspace.axes import Artefact, Budget, Geometry, Mechanism, Scoring, Strategy
from designspace.errors import DeclarationError, InfeasibleBudget
from designspace.models.calibration import Corpus, load_artefact
from designspace.models.loading import LoadedModel, load_model, prepare
from designspace.models.model_spec import ModelSpec
from designspace.registry import REGISTRY_AXES, calibration, catalog, kinds, mechanism, strategy
from designspace.testing.composition import SHORT
from designspace.testing.conformance import SHAPES, Shape, check_mechanism, check_strategy
from families.cadence.every_k import EveryK
from families.cadence.hysteresis import Hysteresis
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid
from families.representation.kivi import Kivi
from families.scoring.h2o import H2O
from families.scoring.selectors.diversity import Diversity
from families.scoring.snapkv import SnapKV
from tests.conftest import REPOSITORY

# Parameters without a default.
REQUIRED: dict[str, dict[str, Any]] = {}
# Parameterisations beside the defaults and one for each option of a parameter.
FURTHER: dict[str, list[dict[str, Any]]] = {
    "scoring.learned": [{"sinks": 2, "recent": 3}],
    "scoring.trim-kv": [{"look_ahead": 5, "sinks": 2, "recent": 3}],
    "scoring.kvzap": [{"sinks": 2, "recent": 3}],
    "scoring.dms": [{"sinks": 2, "recent": 3}],
    "scoring.fast-kvzip": [{"sinks": 0, "recent": 0}],
    "scoring.snapkv": [{"kernel": 5, "pool": "avg", "recent": 3, "sinks": 2}],
    "scoring.r-kv": [{"lam": 0.5, "threshold": 0.0}, {"lam": 1.0, "kernel": 1, "recent": 1}],
    "scoring.skip-kv": [{"alike": 0.0, "lam": 0.5, "recent": 3, "sinks": 2}, {"alike": 1.0, "kernel": 1}],
    "scoring.g-kv": [{"threshold": 0.0, "recent": 3, "sinks": 2}, {"lam": 1.0, "kernel": 3, "recent": 1}],
    "scoring.rpc": [{"recent": 3, "kernel": 3, "sinks": 2}, {"recent": 1, "kernel": 1}],
    "scoring.h2o": [{"recent": 0, "sinks": 3}],
    "scoring.lag-kv": [{"lag": 4, "sinks": 0}],
    "scoring.expected-attention": [{"window": 5, "n_future": 16, "epsilon": 0.02, "recent": 2}],
    "scoring.triattention": [{"scope": "layer-head", "group": "mean", "aggregate": "max", "noise": 0.0}],
    "selector.diversity": [{"weight": 0.0}, {"weight": 3.0, "floor": False, "scope": "layer-head"}],
    "selector.mmr": [{"lam": 0.0}, {"lam": 1.0}],
    "selector.poisson-hajek": [{"certain": 0.0, "mix": 1.0}, {"certain": 1.0}, {"certain": 0.0, "mix": 0.01}],
    "selector.dpp": [{"theta": 0.0, "eta": 1.0}],
    "head_routing.ada-kv": [{"floor": 0.0}, {"floor": 1.0}, {"floor": 0.5, "safeguard": "blend", "normalise": "mass"}],
    "head_routing.pyramid": [{"beta": 1.0}, {"beta": 3.0}],
    "cadence.every-k": [{"k": 1}, {"k": 5, "prefill": False}],
    "cadence.hysteresis": [{"slack": 7, "prefill": False}],
    "cadence.growing": [{"period": 7, "ratio": 2.5, "window": 0}, {"period": 16, "ratio": 16.0, "window": 3}],
    "cadence.threshold": [{"tau": 0.5, "k": 5}],
    "cadence.prefill-only": [{"horizon": 12}],
    "representation.kivi": [{"bits": 4, "group": 4, "residual": 4}, {"bits": 8, "group": 8, "residual": 16}],
    "decoding.sampling": [{"temperature": 1.5, "top_p": 1.0}, {"temperature": 0.01, "top_p": 0.01}],
}
EXEMPT = {
    # A priority is drawn for each head by its number: the draws of two heads must differ.
    "scoring.random": ("head permutation",),
    # Its selector draws for each head by its number.
    "scoring.vase": ("head permutation",),
    # Equal scores are drawn with equal probability.
    "selector.sampling": ("ties", "head permutation"),
    "selector.poisson-hajek": ("ties", "head permutation"),
    # One sample after the other, each at the full budget: together they are meant to cost more.
    "decoding.self-consistency[matched=integral]": ("accounts",),
}
# A store of this size takes seconds to probe byte by byte; the smaller ones above take the same path.
LARGE = {"representation.kivi": ("held bytes are real",)}
FEW = SHAPES[1:3]
ONE = (Shape("groups of 2, ragged heads", 2, 2, 2, 2, "ragged"),)
TOGETHER = tuple(shape for shape in SHAPES if shape.together and shape.layers > 1)
SHAPES_OF = {
    # Nothing to share with a single layer.
    "head_routing.kv-sharer": tuple(shape for shape in SHAPES if shape.layers > 1),
    "representation.mini-cache": TOGETHER,
}
# A system for a strategy that objects to plain company.
WITHIN = {
    # It merges layers, so they must hold the same tokens.
    "representation.mini-cache": "streaming-llm",
}
# Calibrations that a tiny random model would leave empty.
HAND_MADE = {
    "kv-sharer": {
        "pairs": torch.tensor([[1, 0]]),
        "cosine": torch.tensor([0.9]),
        "threshold": torch.tensor([0.5]),
    }
}


def options(kind: type[Strategy]) -> Iterator[dict[str, Any]]:
    """Yield one set of parameters for each option of a parameter that has options."""
    hints = get_type_hints(kind)
    for f in fields(kind):
        hint = hints[f.name]
        choices = [True, False] if hint is bool else list(get_args(hint)) if get_origin(hint) is Literal else []
        yield from ({f.name: choice} for choice in choices if choice != f.default)


def instances() -> list[Any]:
    """Return every registered strategy: defaults on all shapes, further parameters on two, single options on one."""
    return [case for axis in REGISTRY_AXES for name in kinds(axis) for case in instances_of(axis, name)]


def instances_of(axis: str, name: str) -> Iterator[Any]:
    """Yield one kind's parameterisations, each with its exemptions and shapes."""
    key, kind = f"{axis}.{name}", strategy(axis, name)
    default, exempt, large = REQUIRED.get(key, {}), EXEMPT.get(key, ()), LARGE.get(key, ())
    yield pytest.param(kind(**default), (*exempt, *large), SHAPES_OF.get(key, SHAPES), id=key)
    further = [(parameters, FEW) for parameters in FURTHER.get(key, [])]
    for parameters, shapes in (*further, *((option, ONE) for option in options(kind))):
        words = ",".join(f"{name}={value}" for name, value in parameters.items())
        try:
            subject = kind(**(default | parameters))
        except DeclarationError:
            continue  # an option that needs another one changed with it
        if isinstance(subject, Scoring) and subject.keeps_everything and subject.protects_prompt:
            continue  # refused in every composition: nothing is evicted anyway
        slow, name = () if "residual" in parameters else large, f"{key}[{words}]"
        yield pytest.param(subject, (*exempt, *EXEMPT.get(name, ()), *slow), SHAPES_OF.get(key, shapes), id=name)


@cache
def model_of(layers: int, heads: int, kv_heads: int, head_dim: int) -> LoadedModel:
    """Return a tiny random model of a geometry."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama", vocab_size=97, hidden_size=24, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim, initializer_range=0.1,
        tie_word_embeddings=False, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return prepare(AutoModelForCausalLM.from_config(config, dtype=torch.float32))


@cache
def measured(name: str, layers: int, heads: int, kv_heads: int, head_dim: int) -> Artefact:
    """Return a calibration measured on a tiny random model."""
    generator = torch.Generator().manual_seed(0)
    texts = tuple(tuple(torch.randint(2, 97, (64,), generator=generator).tolist()) for _ in range(2))
    if name in HAND_MADE:
        return Artefact(name, HAND_MADE[name])
    loaded = model_of(layers, heads, kv_heads, head_dim)
    return Artefact(name, calibration(name)(loaded, Corpus(texts, tuple(text[:8] for text in texts), "random tokens")))


def artefact(name: str, geometry: Geometry) -> Artefact:
    """Return a calibration for a geometry."""
    return measured(name, geometry.n_layers, geometry.n_query_heads, geometry.n_kv_heads, geometry.head_dim)


@pytest.mark.parametrize(("subject", "exempt", "shapes"), instances())
def test_every_strategy_passes(subject: Strategy, exempt: tuple[str, ...], shapes: Any) -> None:
    """The kit finds nothing wrong."""
    company = WITHIN.get(f"{subject.axis}.{subject.kind}")
    within = mechanism(company) if company else None
    check_strategy(subject, exempt=exempt, shapes=shapes, artefacts=artefact, within=within)


@pytest.mark.parametrize("axis", REGISTRY_AXES)
def test_citations_exist(axis: str) -> None:
    """Every citation key of a strategy is in the bibliography, as is every key in a docstring's brackets."""
    known = set(re.findall(r"^@\w+\{([^,\s]+),", (REPOSITORY / "docs/references.bib").read_text(), re.MULTILINE))
    for name in kinds(axis):
        kind = strategy(axis, name)
        cited = {*re.findall(r"\[([a-z]+\d{4}\w*)\]", kind.__doc__ or ""), *filter(None, [kind.citation])}

        assert cited - known == set(), name


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """A bundled model, as some decodings ask the tokenizer for words."""
    return load_model(ModelSpec.bundled("pocket-llama"))


def budget_for(system: Mechanism) -> Budget | None:
    """Return a budget well below the kit's longest prompt, in a reading that the cadence takes."""
    if not system.budget_applies:
        return None
    try:
        system.cadence.schedule(Budget(56))
    except InfeasibleBudget:
        return Budget(56, "nominal")
    return Budget(56)


@pytest.mark.parametrize("name", catalog())
def test_every_system_runs_as_it_should(pocket: LoadedModel, name: str) -> None:
    """The real engine, with every invariant on, on each system of the catalogue."""
    system = mechanism(name)
    if system.decoding is not None:  # in words of the model's language
        changes = SHORT.get(("decoding", system.decoding.kind), {})
        speaking = replace(system.decoding, **changes).with_default_chooser(Sampling())
        system = system.override(name, decoding=speaking)
    if system.scoring.needs().sentences:
        speaking = replace(system.scoring, **SHORT["scoring", system.scoring.kind])
        system = system.override(name, scoring=speaking)
    needs = system.needs()
    found = {need: artefact(need, pocket.geometry) for need in needs.calibrations}
    # Gates read the residual stream, whose width a geometry does not say: theirs is the model's own.
    found |= {gate.artefact: load_artefact(ModelSpec.bundled("pocket-llama"), gate.artefact) for gate in needs.gates}
    check_mechanism(system, pocket, budget_for(system), artefacts=found)


@pytest.mark.parametrize(
    "axes",
    [
        {"scoring": SnapKV(recent=3), "cadence": EveryK(k=4), "head_routing": AdaKV(floor=0.3)},
        {"scoring": H2O(recent=3), "cadence": Hysteresis(slack=3), "head_routing": Pyramid(beta=4.0)},
        {"scoring": H2O(recent=2, selector=Diversity()), "representation": Kivi(bits=2, group=8, residual=8)},
    ],
    ids=["snapkv-ada", "h2o-pyramid", "h2o-diversity-kivi"],
)
def test_compositions_run_as_they_should(pocket: LoadedModel, axes: dict[str, Any]) -> None:
    """Ragged heads, codes and a selector at a small budget, with many events."""
    check_mechanism(mechanism("h2o").override("composed", **axes), pocket, Budget(12))
