"""What a mechanism is: the contracts of the five axes, and the records that pass between them and the engine.

Who implements a strategy imports from here; `families` needs nothing else of `designspace`.
"""

from designspace.axes.artefact import Artefact
from designspace.axes.budget import Budget, Reading, TokenReading
from designspace.axes.contents import Contents
from designspace.axes.control import Action, Controller, StepSeen, TextCodec
from designspace.axes.event_tracker import EventTracker
from designspace.axes.gates import Arrival, Gate
from designspace.axes.generation import Generation, Request
from designspace.axes.geometry import Geometry
from designspace.axes.mechanism import AXES, Mechanism
from designspace.axes.needs import Needs
from designspace.axes.schedule import IntOrTensor, RowSchedule, Schedule, split_half
from designspace.axes.sentences import Sentences
from designspace.axes.slot_store import SlotState, SlotStore, StoreSpec
from designspace.axes.strategy import (
    Cadence,
    Composition,
    Decoding,
    Draw,
    HeadRouting,
    MergeResult,
    Protect,
    Reference,
    Representation,
    Scoring,
    Selector,
    Strategy,
)
from designspace.axes.trackers import Tracker
from designspace.axes.view import Observed, RunContext, View
from designspace.axes.window import Window, WindowShare

__all__ = [
    "AXES",
    "Action",
    "Arrival",
    "Artefact",
    "Budget",
    "Cadence",
    "Composition",
    "Contents",
    "Controller",
    "Decoding",
    "Draw",
    "EventTracker",
    "Gate",
    "Generation",
    "Geometry",
    "HeadRouting",
    "IntOrTensor",
    "Mechanism",
    "MergeResult",
    "Needs",
    "Observed",
    "Protect",
    "Reading",
    "Reference",
    "Representation",
    "Request",
    "RowSchedule",
    "RunContext",
    "Schedule",
    "Scoring",
    "Selector",
    "Sentences",
    "SlotState",
    "SlotStore",
    "StepSeen",
    "StoreSpec",
    "Strategy",
    "TextCodec",
    "TokenReading",
    "Tracker",
    "View",
    "Window",
    "WindowShare",
    "split_half",
]
