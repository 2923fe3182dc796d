"""Trackers that compression events update: what a scoring remembers of each slot from one event to the next."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from designspace.axes.needs import Needs
from designspace.axes.trackers import Tracker
from designspace.axes.view import View


@dataclass(frozen=True)
class EventTracker(Tracker):
    """A tracker whose state is made anew at every event, from the state before and from what the event shows.

    It is not fed queries unless it overrides `observe` too, and then attention is formed for it.
    """

    @property
    def observes(self) -> bool:
        """Whether it is fed every query: true of each event tracker that overrides `observe`."""
        return type(self).observe is not EventTracker.observe

    def needs(self) -> Needs:
        """Return what `at_event` is shown."""
        return Needs(queries=self.queries, trackers=(self,), keys=self.keys, values=self.values)

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Return the state [B,H_kv,C,channels] after one more query per row: unchanged."""
        return state

    @abstractmethod
    def at_event(self, view: View) -> Tensor:
        """Return the state [L,E,H_kv,C,channels] that a compression event leaves, for all slots before any is freed.

        Asked once per event. view: as the event's strategies see it, with this tracker's state before the event, the newest
        `queries`, and keys and values if the tracker says that it reads them. A scoring that ranks by the new state asks for
        it itself, as what it is shown is the state before. What is returned for free slots is ignored.
        """
