"""Register, tune, confirm, decide."""

from designspace.protocol.document import heldout_hash, task_record
from designspace.protocol.looks import HeldoutKey, LookedArm, LookLedger, open_look, require_key, resume_look
from designspace.protocol.registration import (
    Difference,
    Registration,
    differences,
    load,
    make_registration,
    require_same,
    save,
)

__all__ = [
    "Difference",
    "HeldoutKey",
    "LookLedger",
    "LookedArm",
    "Registration",
    "differences",
    "heldout_hash",
    "load",
    "make_registration",
    "open_look",
    "require_key",
    "require_same",
    "resume_look",
    "save",
    "task_record",
]
