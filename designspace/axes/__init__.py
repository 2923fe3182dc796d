"""What a mechanism is: the contracts of the five axes, and the records that pass between them and the engine.

Who implements a strategy imports from here; `families` needs nothing else of `designspace`.
"""

from designspace.axes.artefact import Artefact
from designspace.axes.budget import Budget, Reading, TokenReading
from designspace.axes.control import Action, Controller, StepSeen, TextCodec
from designspace.axes.generation import Generation, Request
from designspace.axes.geometry import Geometry
from designspace.axes.mechanism import AXES, Mechanism
from designspace.axes.needs import Needs
from designspace.axes.schedule import IntOrTensor, Pacer, Schedule, split_half
from designspace.axes.slot_store import Held, Room, SlotStore
from designspace.axes.strategy import (
    Cadence,
    Decoding,
    Folded,
    HeadRouting,
    Representation,
    Scoring,
    Selector,
    Strategy,
)
from designspace.axes.trackers import Tracker
from designspace.axes.view import Observed, Setting, View

__all__ = [
    "AXES",
    "Action",
    "Artefact",
    "Budget",
    "Cadence",
    "Controller",
    "Decoding",
    "Folded",
    "Generation",
    "Geometry",
    "HeadRouting",
    "Held",
    "IntOrTensor",
    "Mechanism",
    "Needs",
    "Observed",
    "Pacer",
    "Reading",
    "Representation",
    "Request",
    "Room",
    "Schedule",
    "Scoring",
    "Selector",
    "Setting",
    "SlotStore",
    "StepSeen",
    "Strategy",
    "TextCodec",
    "TokenReading",
    "Tracker",
    "View",
    "split_half",
]
