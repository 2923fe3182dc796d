"""A hook sees every occasion of a run, in order, and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Generation, Request, StepSeen
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.hook import REGIONS
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.scoring.h2o import H2O
from tests.conftest import toy_model

ROWS, N_NEW, LENGTHS = 2, 13, (9, 20, 14)


@dataclass(frozen=True)
class Telling(EveryK):
    """A cadence that tells its schedules the tokens that were fed, and does not go by them."""

    def signal(self, seen: StepSeen) -> Tensor:
        """Return them."""
        return seen.tokens.float()


class Diary(EngineHook):
    """Writes down every occasion."""

    def __init__(self) -> None:
        self.occasions: list[str] = []
        self.open: list[str] = []
        self.regions: Counter[tuple[str, ...]] = Counter()
        self.signals: list[list[float]] = []
        self.starts: list[tuple[str, int]] = []

    def region(self, name: str) -> AbstractContextManager[None]:
        """Count how often a region is entered, with those around it."""
        return self._region(name)

    @contextmanager
    def _region(self, name: str) -> Iterator[None]:
        self.open.append(name)
        self.regions[tuple(self.open)] += 1
        yield
        assert self.open.pop() == name

    def on_start(self, state: RowState) -> None:
        """Write down the start and what the row has by then."""
        self.occasions.append("start")
        self.starts.append((state.request.problem_id, len(state.tokens)))

    def on_step(self, states: Collection[RowState]) -> None:
        """Write down the step."""
        assert self.open == []
        self.occasions.append("step")

    def on_signals(self, states: Collection[RowState], signals: Sequence[float]) -> None:
        """Write down the signals."""
        self.occasions.append("signals")
        self.signals.append(list(signals))

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Write down the end of the events; the texts lack the last burst."""
        assert all(len(state.tokens) <= state.n_steps for state in states)
        self.occasions.append("compressed")


def engine(burst: int, cadence: EveryK) -> Engine:
    """Two rows of a toy model."""
    arm = mechanism("h2o").override("h2o", scoring=H2O(recent=3), cadence=cadence, decoding=Greedy())
    return Engine(
        toy_model(), arm, Budget(12), rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=max(LENGTHS), burst=burst
    )


def requests() -> list[Request]:
    """More prompts than rows."""
    random = torch.Generator().manual_seed(5)
    prompts = [tuple(torch.randint(2, 97, (n,), generator=random).tolist()) for n in LENGTHS]
    return [Request(f"p{i}", prompt, stream_key(7, f"p{i}", 0)) for i, prompt in enumerate(prompts)]


def everything(generation: Generation) -> list[object]:
    """All of a generation but its wall time."""
    return [getattr(generation, f.name) for f in fields(Generation) if f.name != "wall_s"]


@pytest.mark.parametrize("burst", [1, 4])
def test_all_occasions_in_order(burst: int) -> None:
    """Every row starts once, every step is told before the signals, and these before the end of the events."""
    running = engine(burst, Telling(k=4))
    running.hook = diary = Diary()
    generations = list(running.generate(requests()))
    n_bursts = diary.occasions.count("compressed")

    assert diary.starts == [("p0", 1), ("p1", 1), ("p2", 1)]
    assert diary.occasions.count("step") == running.n_steps
    assert diary.occasions.count("signals") == n_bursts == len(diary.signals)
    assert all(len(signals) == ROWS for signals in diary.signals)
    text = "".join(occasion[0] for occasion in diary.occasions if occasion != "start")
    assert set(text.split("sc")) - {""} <= {"s" * n for n in range(1, burst + 1)}
    assert any(g.n_events for g in generations)


def test_regions_and_how_they_lie_in_each_other() -> None:
    """Attention within the model once per layer, every other region by itself."""
    running = engine(1, EveryK(k=4))
    running.hook = diary = Diary()
    list(running.generate(requests()))
    n_layers = running.cache.geometry.n_layers

    assert {path[-1] for path in diary.regions} == set(REGIONS)
    assert {path for path in diary.regions if len(path) > 1} == {("model", "attention")}
    assert diary.regions["model",] == running.n_steps
    assert diary.regions["model", "attention"] == n_layers * running.n_steps
    assert diary.regions["sampling",] == running.n_steps + len(LENGTHS)
    assert diary.regions["prefill",] == len(LENGTHS)


def test_a_hook_changes_nothing() -> None:
    """With a hook and without one: the same generations."""
    plain, watched = engine(1, Telling(k=4)), engine(1, Telling(k=4))
    watched.hook = Diary()

    assert [everything(g) for g in plain.generate(requests())] == [everything(g) for g in watched.generate(requests())]
