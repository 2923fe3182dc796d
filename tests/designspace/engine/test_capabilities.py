"""What the engine asks of a strategy before it runs is true of those that override the method, and of no other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from designspace.axes import Budget, Cadence, Decoding, Representation, RowSchedule, StepSeen
from designspace.registry import kinds, strategy
from families.cadence.adaptive import Adaptive
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.representation.full import FullPrecision


@dataclass(frozen=True)
class Signalling(EveryK):
    """A cadence with a signal."""

    def signal(self, seen: StepSeen) -> Tensor:
        """Return nothing of interest."""
        return torch.zeros(1)


class Remembering(RowSchedule):
    """A row's schedule that remembers what it was told."""

    def due(self, step: int, size: int, signal: float | None) -> bool:
        """Return whether the row is cut."""
        return super().due(step, size, signal)


def test_decodings_that_steer() -> None:
    """Those with controllers."""
    assert not Greedy().steers
    assert not Sampling().steers
    assert Rollback().steers


def test_cadences_that_read_signals() -> None:
    """Those with a signal."""
    assert not EveryK(k=4).reads_signals
    assert Signalling(k=4).reads_signals
    assert Adaptive().reads_signals


def test_row_schedules_that_see_every_step() -> None:
    """Those that say themselves when a row is due; they are asked after each step."""
    schedule = EveryK(k=4).schedule(Budget(12))

    assert not schedule.row_schedule().sees_every_step
    assert schedule.row_schedule().steps_until_due(1, 5, 50) > 1
    assert Remembering(schedule).sees_every_step
    assert Remembering(schedule).steps_until_due(1, 5, 50) == 1


def test_every_registered_kind_has_an_answer() -> None:
    """Without being bound, loaded or run."""
    steering = {kind for kind in kinds("decoding") if _steers(strategy("decoding", kind))}
    signalling = {kind for kind in kinds("cadence") if strategy("cadence", kind)().reads_signals}  # type: ignore[attr-defined]
    merging = {kind for kind in kinds("representation") if strategy("representation", kind)().merges}  # type: ignore[attr-defined]

    assert steering == {"budget-forcing", "refresh", "rollback", "state-emit", "thought-aware"}
    assert signalling == {"adaptive"}
    assert merging == {"cam", "counted-merge", "d2o", "nearest-merge", "span-mean"}


def _steers(kind: type) -> bool:
    made = kind()
    assert isinstance(made, Decoding)
    return made.steers


def test_the_defaults() -> None:
    """A contract that overrides nothing claims nothing."""
    assert not FullPrecision().merges
    assert type(FullPrecision()).merges is Representation.merges
    assert type(EveryK(k=4)).reads_signals is Cadence.reads_signals
