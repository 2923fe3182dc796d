"""Stated memory against memory that an engine really takes, tensor by tensor, and against sums by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from designspace.axes import Artefact, Budget, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.prefill import prompts_per_pass
from designspace.errors import ModelError
from designspace.memory.footprint import ArmMemory, Footprint
from designspace.memory.live_bytes import LiveBytes
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton, skeleton_of, weight_bytes
from designspace.registry import catalog, mechanism
from families.cadence.threshold import Threshold
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from families.decoding.teacher_forced import TeacherForced
from families.representation.kivi import Kivi
from families.scoring.critical_kv import CriticalKV
from families.scoring.kvzap import KVzap
from families.scoring.snapkv import SnapKV
from tests.conftest import toy_gates, toy_model, toy_statistics

ROWS, N_PROMPT, N_NEW, N_PROMPTS = 12, 28, 20, 24
MOST_KEPT = 16
POCKET = ModelSpec.bundled("pocket-llama")
LIMITS = {"max_prompt_tokens": N_PROMPT, "max_new_tokens": N_NEW}


@pytest.fixture(autouse=True)
def _few_waiting_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer prompts are kept, so that a small run keeps as many as it may."""
    monkeypatch.setattr("designspace.engine.prefill._MOST_KEPT", MOST_KEPT)


def arm(name: str, decoding: object | None = None) -> tuple[Mechanism, Budget | None]:
    """Return a mechanism of the catalogue and a budget for it; groups fit the toy's heads, windows its budget."""
    axes: dict[str, Any] = {
        "kivi": {"representation": Kivi(group=16, residual=16)},
        "snapkv": {"scoring": SnapKV()},
        "critical-kv": {"scoring": CriticalKV()},
        "kvzap": {"scoring": KVzap(recent=8), "cadence": Threshold(tau=0.0)},
    }.get(name, {})
    found = mechanism(name).override(name, decoding=decoding or Greedy(), **axes)
    reading = "nominal" if found.cadence.kind == "prefill-only" else "mean"
    return found, Budget(24, reading) if found.budget_applies else None  # type: ignore[arg-type]


def made_up(loaded: LoadedModel, name: str) -> dict[str, Artefact]:
    """Return the calibrations of a mechanism, and no gate without need: whatever is handed over counts."""
    gate = {"trim-kv": "trim-gate", "kvzap": "kvzap"}.get(name)
    return toy_statistics(loaded) if gate is None else {gate: toy_gates(loaded)[gate]}


def peak_of_engine(loaded: LoadedModel, name: str, decoding: object | None = None) -> int:
    """Return what an engine has alive at its worst moment, when every prompt is asked for twice."""
    found, budget = arm(name, decoding)
    generator = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(3, 97, (N_PROMPT,), generator=generator).tolist()) for _ in range(N_PROMPTS)]
    names = [(f"p{i}.{again}", prompt) for again in range(2) for i, prompt in enumerate(prompts)]
    requests = [Request(name, prompt, stream_key(0, name, 0), max_new_tokens=12) for name, prompt in names]
    with LiveBytes() as live:
        engine = Engine(loaded, found, budget, rows=ROWS, artefacts=made_up(loaded, name), **LIMITS)
        for _ in engine.generate(requests):
            pass
    return live.peak


@pytest.mark.usefixtures("plain_path")
@pytest.mark.parametrize(
    "name",
    [
        "full",
        "h2o",
        "r-kv",
        "syn-mem-prefill",
        "alpha",
        "kivi",
        "scissorhands",
        "cam",
        "critical-kv",
        "squeeze",
        "trim-kv",
        "kvzap",
    ],
)
def test_an_engine_takes_what_is_stated(name: str) -> None:
    """Never more; and no more than a fifth is stated in vain, though the toy makes small things count."""
    loaded = toy_model()
    found, budget = arm(name)
    stated = ArmMemory(loaded, found, budget, artefacts=made_up(loaded, name), **LIMITS).at(ROWS)
    taken = peak_of_engine(loaded, name)
    assert taken <= stated.cache + stated.workspace + stated.weights - weight_bytes(loaded) <= 1.2 * taken


@pytest.mark.usefixtures("plain_path")
def test_samples_of_one_problem_and_their_probabilities_are_in_it() -> None:
    """Sampling sorts in float64, comparing samples takes another copy."""
    loaded = toy_model()
    decoding = SelfConsistency(decoding=Sampling(), samples=2)
    memory = ArmMemory(loaded, *arm("full", decoding), **LIMITS)
    assert memory._choice(50) >= 50 * 97 * 8 * 4
    taken = peak_of_engine(loaded, "full", decoding)
    assert taken <= memory.cache(ROWS) + memory.workspace(ROWS) <= 1.2 * taken


def test_scores_of_tokens_are_in_it() -> None:
    """Logits of every row in float64, and their logarithms, while a token that is fed is scored."""
    skeleton, rows = skeleton_of(toy_model("llama")), 64
    scored, greedy = (
        ArmMemory(skeleton, *arm("snapkv", decoding), n_prompts=N_PROMPTS, **LIMITS)._choice(rows)
        for decoding in (TeacherForced(), Greedy())
    )
    assert 2 * 8 * rows * 97 == scored > greedy


def test_a_compiled_kernel_takes_no_more() -> None:
    """With whatever kernels this machine has, what is stated still holds."""
    loaded = toy_model()
    for name in ("h2o", "alpha"):
        found, budget = arm(name)
        stated = ArmMemory(loaded, found, budget, artefacts=toy_statistics(loaded), **LIMITS).at(ROWS)
        assert peak_of_engine(loaded, name) <= stated.total - weight_bytes(loaded)


@pytest.mark.parametrize(("rows", "layers", "kv_heads"), [(1, 2, 2), (7, 3, 1)])
def test_the_full_cache_by_hand(rows: int, layers: int, kv_heads: int) -> None:
    """Keys and values, positions, counts; per row its pins, next position, prompt length, stream and flag."""
    loaded = toy_model(layers=layers, kv_heads=kv_heads)
    found, budget = arm("full")
    slots = N_PROMPT + N_NEW + 1
    heads = layers * rows * kv_heads
    by_hand = heads * slots * (2 * 16 * 4 + 4) + heads * 4 + rows * (N_PROMPT + N_NEW + 3 * 8 + 1)
    assert by_hand == ArmMemory(loaded, found, budget, **LIMITS).at(rows).cache


def test_what_is_observed_is_in_the_cache_by_hand() -> None:
    """R-KV keeps eight queries, their positions and the place of the newest beside the slots, H2O one number per slot."""
    loaded = toy_model()
    plain = ArmMemory(loaded, *arm("streaming-llm"), **LIMITS)
    watched = ArmMemory(loaded, *arm("h2o"), **LIMITS)
    assert watched.cache(ROWS) - plain.cache(ROWS) == 2 * ROWS * 2 * plain.capacity * 4
    windowed = ArmMemory(loaded, *arm("r-kv"), **LIMITS)
    bare = ArmMemory(loaded, *arm("keydiff"), **LIMITS)
    assert windowed.capacity == bare.capacity
    assert windowed.cache(ROWS) - bare.cache(ROWS) == 2 * ROWS * 4 * 8 * 16 * 4 + ROWS * 8 * 8 + 8


def test_weights_are_known_from_the_configuration_alone(tmp_path: Path) -> None:
    """Nothing but config.json and the tokenizer is needed, and the sum is that of the loaded model."""
    loaded = load_model(POCKET)
    assert POCKET.folder is not None
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(POCKET.folder / name, tmp_path / name)
    skeleton = load_skeleton(ModelSpec("bare", path=str(tmp_path)))
    by_hand = sum(x.nbytes for x in loaded.model.state_dict().values())
    tied = loaded.model.config.tie_word_embeddings
    by_hand -= loaded.model.lm_head.weight.nbytes if tied else 0
    assert weight_bytes(skeleton) == weight_bytes(loaded)
    assert weight_bytes(loaded) - by_hand == sum(x.nbytes for x in loaded.model.buffers())
    assert skeleton.device.type == "meta"
    assert skeleton.encode("3 + 4") == loaded.encode("3 + 4")
    assert torch.equal(skeleton.geometry.inv_freq, loaded.geometry.inv_freq)


def test_half_the_type_is_half_the_weights() -> None:
    """bfloat16 is declared, not read off the files."""
    wide, narrow = (load_skeleton(ModelSpec.bundled("pocket-llama", dtype=d)) for d in ("float32", "bfloat16"))
    buffers = sum(x.nbytes for x in wide.model.buffers())
    assert (weight_bytes(wide) - buffers) == 2 * (weight_bytes(narrow) - buffers)


def test_a_missing_configuration_is_a_clear_error(tmp_path: Path) -> None:
    """No traceback of a library."""
    with pytest.raises(ModelError, match="no model at"):
        load_skeleton(ModelSpec("none", path=str(tmp_path)))


def test_one_loaded_model_has_one_skeleton() -> None:
    """And it leaves the model as it is."""
    loaded = toy_model()
    assert skeleton_of(loaded) is skeleton_of(loaded)
    assert (loaded.device.type, skeleton_of(skeleton_of(loaded)).device.type) == ("cpu", "meta")


def test_projections_and_calibrations_count_as_weights() -> None:
    """A strategy that reads the output projections works on a stacked copy of them."""
    loaded = toy_model()
    base = ArmMemory(loaded, *arm("snapkv"), **LIMITS).weights
    reading = ArmMemory(loaded, *arm("critical-kv"), **LIMITS).weights
    calibrated = ArmMemory(loaded, *arm("snapkv"), artefacts=toy_statistics(loaded), **LIMITS).weights
    assert reading - base == 2 * 4 * 16 * 64 * 4
    assert calibrated - base == 2 * 3 * 2 * 4 * 8 * 4  # two artefacts of three tensors


def test_memory_grows_with_rows_and_the_event_does_not_beyond_its_chunk() -> None:
    """The cache is linear in rows; an every-k arm cuts a chunk of fixed size."""
    memory = ArmMemory(toy_model(), *arm("snapkv"), **LIMITS)
    assert memory.cache(30) - memory.cache(20) == memory.cache(20) - memory.cache(10)
    assert memory._event(512) == memory._event(1024)
    every_step = ArmMemory(toy_model(), *arm("h2o"), **LIMITS)
    assert every_step._event(1024) > 1.9 * every_step._event(512)


def test_prompts_that_wait_hold_keys_and_values() -> None:
    """Sixteen whole prompts here, whatever the budget, if there are so many; and what is left of a pass."""
    few, many = (ArmMemory(toy_model(), *arm("h2o"), n_prompts=n, **LIMITS) for n in (4, 1000))
    text = 2 * 2 * 2 * 32 * 16 * 4  # keys and values of two layers and two heads, padded to 32 tokens
    observed, positions = 2 * 2 * 32 * 4, 32 * 8
    logits = prompts_per_pass(32) * 97 * 4
    each = text + observed + positions + logits
    assert 12 * text < many.workspace(1) - few.workspace(1) <= 12 * each


def test_the_whole_catalogue_has_a_footprint() -> None:
    """Every store, observer and event of the catalogue, with the artefacts that ship with the pocket model."""
    skeleton = load_skeleton(POCKET)
    for name, found in catalog().items():
        chooser = Sampling() if found.decoding is None else found.decoding.with_default_chooser(Sampling())
        arm_ = found.override(name, decoding=chooser)
        reading = "nominal" if arm_.cadence.kind == "prefill-only" else "mean"
        memory = ArmMemory(
            skeleton,
            arm_,
            Budget(48, reading) if arm_.budget_applies else None,  # type: ignore[arg-type]
            artefacts={name: load_artefact(POCKET, name) for name in arm_.needs().calibrations},
            **LIMITS,
        )
        few, many = memory.cache(8), memory.cache(64)
        assert 0 < few < many < 9 * few, name


def test_a_footprint_in_words() -> None:
    """Each part with its name; the total is their sum."""
    found = Footprint(weights=2**30, cache=5 * 2**29, workspace=2**20)
    assert str(found) == "2.50 GiB cache + 1.0 MiB workspace + 1.00 GiB weights"
    assert found.total == 2**30 + 5 * 2**29 + 2**20
