"""What runs a mechanism on a model: prefill, decode steps, compression events, the ledger."""

from designspace.axes import Generation, Request
from designspace.engine.engine import ENGINE_VERSION, Burst, Engine, event_rows, usual_burst

__all__ = ["ENGINE_VERSION", "Burst", "Engine", "Generation", "Request", "event_rows", "usual_burst"]
