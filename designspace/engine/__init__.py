"""What runs a mechanism on a model: prefill, decode steps, compression events, the ledger."""

from designspace.axes import Generation, Request
from designspace.engine.engine import ENGINE_VERSION, Engine
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState

__all__ = ["ENGINE_VERSION", "Engine", "EngineHook", "Generation", "Request", "RowState"]
