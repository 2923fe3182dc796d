"""The captured decode step, replayed: tokens, accounts and bytes are those of plain steps, whatever the arm.

On a CPU the graph is recorded operation by operation (`recorded_graph`), which shows that no strategy keeps anything of a
step in Python or exchanges a tensor between steps. `make test-gpu` runs the same on a device's own graphs.
"""

from __future__ import annotations

import pytest

from designspace.axes import Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.cache.slots import SlotCache
from designspace.engine import Engine
from designspace.engine.decode_step import CapturedStep, DecodeStep, StepKind, decode_step, forward_of
from designspace.errors import InvariantViolation
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import start
from tests.designspace.engine.recorded_graph import record_on_cpu
from tests.designspace.strategies import EVERY_COMPILED, SPEC, run


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """Have engines of `step: compiled` capture the model's own modules, uncompiled; return what they capture."""
    made = []

    def capture(loaded: LoadedModel, cache: SlotCache, kind: StepKind) -> DecodeStep:
        if kind == "plain":
            return decode_step(loaded, cache, kind)
        made.append(CapturedStep(forward_of(loaded.model), cache))
        return made[-1]

    monkeypatch.setattr("designspace.engine.burst.decode_step", capture)
    return made


@pytest.fixture
def recorded(captured: list[CapturedStep], monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """The same with graphs of operations on a CPU, of which C kernels are none."""
    record_on_cpu(monkeypatch)
    monkeypatch.setattr("designspace.cache.slots.fused_attention", lambda *tensors: None)
    return captured


@pytest.mark.parametrize("made", EVERY_COMPILED)
def test_replays_equal_plain_steps(made: Mechanism, recorded: list[CapturedStep]) -> None:
    """To the bit, though rows are cut, retired, refilled and swapped between replays."""
    loaded = load_model(SPEC)

    assert run(loaded, made, "compiled") == run(loaded, made, "plain")
    assert recorded


def test_replays_of_layers_that_share_a_cache(recorded: list[CapturedStep]) -> None:
    """A model trained so: some of its layers write nothing and read what another one has written in the same replay."""
    loaded = load_model(ModelSpec.bundled("pocket-llama-cla"))
    made = mechanism("h2o").override("h2o", decoding=Greedy())

    assert run(loaded, made, "compiled") == run(loaded, made, "plain")
    assert recorded


def test_a_step_is_captured_before_the_first_row(recorded: list[CapturedStep]) -> None:
    """The passes that warm up write rubbish into free slots, so no slot may be in use."""
    loaded = load_model(SPEC)
    engine = Engine(
        loaded,
        mechanism("full").override("full", decoding=Greedy()),
        None,
        rows=2,
        max_new_tokens=4,
        max_prompt_tokens=8,
    )
    start(engine, 0, Request("p", (5, 6, 7), stream_key(7, "p", 0)))

    with pytest.raises(InvariantViolation, match="before the first row is loaded"):
        CapturedStep(lambda tokens, positions: tokens, engine.cache)
    assert not recorded


@pytest.mark.gpu
@pytest.mark.parametrize("made", EVERY_COMPILED)
def test_replays_equal_plain_steps_on_a_gpu(made: Mechanism, captured: list[CapturedStep]) -> None:
    """The same operations on the same device, so to the bit here too."""
    loaded = load_model(SPEC, device="cuda")

    assert run(loaded, made, "compiled") == run(loaded, made, "plain")
    assert captured


@pytest.mark.gpu
@pytest.mark.parametrize("made", EVERY_COMPILED)
def test_compiled_and_captured_rows_do_not_depend_on_the_batch(made: Mechanism) -> None:
    """As it runs on a GPU: compiled, captured, and the texts in another order."""
    loaded = load_model(SPEC, device="cuda")
    order = (4, 6, 1, 0, 5, 3, 2)

    assert run(loaded, made, "compiled") == run(loaded, made, "compiled", order)
