"""The captured decode step, replayed: tokens, accounts and bytes are those of plain steps, whatever the arm.

On a CPU the graph is recorded operation by operation (`recorded_graph`), which shows that no strategy keeps anything of a
step in Python or exchanges a tensor between steps. `make test-gpu` runs the same on a device's own graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from designspace.axes import AXES, Mechanism
from designspace.decode_step import CapturedStep, StepKind, decode_step
from designspace.engine import Engine, Generation, Request
from designspace.errors import InvariantViolation
from designspace.models.calibration import load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.spec import ModelSpec
from designspace.registry import mechanism
from designspace.sampling import stream_key
from designspace.slots import SlotCache
from designspace.testing.composition import Product, budget_for, declare, registered
from families.decoding.greedy import Greedy
from tests.conftest import start
from tests.designspace.recorded_graph import record_on_cpu

SPEC = ModelSpec.bundled("pocket-llama")
ROWS, N_NEW, TOKENS = 4, 40, 36
PROMPTS = (30, 24, 33, 9, 21, 28, 12)


def every_strategy_once() -> list[Mechanism]:
    """Few compositions in which each strategy of each axis occurs."""
    found = declare(registered(), load_model(SPEC).geometry, TOKENS)
    return [
        Mechanism(name=" + ".join(part.kind for part in parts), **dict(zip(AXES, parts, strict=True)))
        for parts in (found.combination(row) for row in _covering(found))
    ]


def _covering(found: Product) -> np.ndarray:
    """Rows of `found.legal`, each the one with most strategies that no earlier one has."""
    starts = np.cumsum([0, *(len(found.strategies[axis]) for axis in AXES)])
    items = found.legal + starts[:-1]
    missing = np.zeros(starts[-1], dtype=bool)
    missing[items] = True
    rows = []
    while missing.any():
        best = int(missing[items].sum(axis=1).argmax())
        missing[items[best]] = False
        rows.append(found.legal[best])
    return np.array(rows)


def run(
    loaded: LoadedModel, made: Mechanism, step: StepKind, order: Sequence[int] = range(len(PROMPTS))
) -> dict[str, tuple[object, ...]]:
    """Run more texts than rows and return everything of each generation but its wall time."""
    random = torch.Generator().manual_seed(3)
    todo = [
        Request(f"p{i}", tuple(torch.randint(4, 97, (n,), generator=random).tolist()), stream_key(7, f"p{i}", 0))
        for i, n in enumerate(PROMPTS)
    ]
    engine = Engine(
        loaded, made, budget_for(made, TOKENS), rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=max(PROMPTS),
        artefacts={name: load_artefact(SPEC, name) for name in made.needs().calibrations}, step=step, burst=3,
    )  # fmt: skip
    return {g.problem_id: _told(g) for g in engine.generate([todo[i] for i in order])}


def _told(g: Generation) -> tuple[object, ...]:
    return (g.token_ids, g.cache_tokens_per_step, g.n_events, g.mean_cache_bytes)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """Have engines of `step: compiled` capture the model's own modules, uncompiled; return what they capture."""
    made = []

    def capture(loaded: LoadedModel, cache: SlotCache, kind: str) -> Callable[[Tensor], Tensor]:
        if kind == "plain":
            return decode_step(loaded, cache, kind)

        def forward(tokens: Tensor, positions: Tensor) -> Tensor:
            output = loaded.model(
                input_ids=tokens[:, None], position_ids=positions[:, None], use_cache=False, slots=None
            )
            logits: Tensor = output.logits[:, -1].float()
            return logits

        made.append(CapturedStep(forward, cache))
        return made[-1]

    monkeypatch.setattr("designspace.engine.decode_step", capture)
    return made


@pytest.fixture
def recorded(captured: list[CapturedStep], monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """The same with graphs of operations on a CPU, of which C kernels are none."""
    record_on_cpu(monkeypatch)
    monkeypatch.setattr("designspace.slots.FusedAttention.of", lambda cache: None)
    return captured


every_strategy = pytest.mark.parametrize("made", every_strategy_once(), ids=lambda made: made.name)


@every_strategy
def test_replays_equal_plain_steps(made: Mechanism, recorded: list[CapturedStep]) -> None:
    """To the bit, though rows are cut, retired, refilled and swapped between replays."""
    loaded = load_model(SPEC)

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
@every_strategy
def test_replays_equal_plain_steps_on_a_gpu(made: Mechanism, captured: list[CapturedStep]) -> None:
    """The same operations on the same device, so to the bit here too."""
    loaded = load_model(SPEC, device="cuda")

    assert run(loaded, made, "compiled") == run(loaded, made, "plain")
    assert captured


@pytest.mark.gpu
@every_strategy
def test_compiled_and_captured_rows_do_not_depend_on_the_batch(made: Mechanism) -> None:
    """As it runs on a GPU: compiled, captured, and the texts in another order."""
    loaded = load_model(SPEC, device="cuda")
    order = (4, 6, 1, 0, 5, 3, 2)

    assert run(loaded, made, "compiled") == run(loaded, made, "compiled", order)
