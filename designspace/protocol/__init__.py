"""Register, tune, confirm, decide: what a study promises before it looks, and whether it kept the promise.

The order of a study:

1. `make_registration` and `save` write down hypotheses, data, test, correction and decision rule as one hashed document;
   `LookLedger.register` notes its hash.
2. Tuning runs on development problems; `freeze_selection` notes what it chose, once.
3. `open_look` notes that the held-out problems are about to be seen and hands out the `HeldoutKey` to them.
4. `analyse` makes the report from the registration and the rows alone; `decide` names the branch; `LookLedger.seal` notes
   the hashes of rows and report; `verify` holds the rows against them and derives the report again, byte for byte.

What this protects against, because it is refused or leaves a mark:

* changing hypotheses, test, level, family size, data, settings or decision rule after registering, by editing the file
  or by running with other settings;
* editing, deleting, reordering or putting in lines of the ledger, cutting it short, deleting it, or setting the clock back;
* another ledger, older or begun anew, beside rows, a selection or a report that it does not know;
* a second selection, a selection after a look, a look at problems that tuning has used, a look that nobody noted;
* running, reporting or exporting held-out problems outside of the protocol, before or after they are registered;
* calling problems unseen that an earlier look has touched, also under other names, in another order, under another template
  or in a smaller set; a family that shrinks by amendment; looking again until it works: every report has the number of its
  look;
* rows that are missing, doubled, of another split, arm, model, grader or configuration, or of arms whose memory differs;
* editing or deleting rows after the result, development rows after the selection, or a report;
* watching the accuracy of arms while they run.

What it cannot protect against: it makes tampering evident, not impossible. Someone who deletes the whole store, ledger
and side file and starts anew leaves no mark here, and neither does someone who rewrites all of them together, edits rows
before they are sealed, reads the store's files, looks at the problems by other means, or changes this code. Against that
helps only what lies outside: publish the hash of the registration (a pushed tag, a public registry, a time stamp) before
the first look, and the head of the ledger with every report. Problems are known again by id, content and normalised
text; the check for near duplicates (`check_disjoint`) sees the same numbers in much the same words, not the same idea in
other words.

Plain data in and out; nothing here imports the layers that declare and run studies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from designspace.protocol.decision import Decision, decide
from designspace.protocol.document import check_document, tuned_parameters
from designspace.protocol.heldout_key import HeldoutKey, open_look, require_key, resume_look
from designspace.protocol.look_entry import LookedArm
from designspace.protocol.looks import LookLedger
from designspace.protocol.problem_records import heldout_hash, task_record
from designspace.protocol.registration import (
    Difference,
    Registration,
    differences,
    load,
    make_registration,
    require_same,
    save,
)
from designspace.protocol.selection import Selection, freeze_selection, load_selection
from designspace.protocol.splits import bucket, check_disjoint

if TYPE_CHECKING:
    from designspace.protocol.analysis import analyse, report_bytes
    from designspace.protocol.verification import verify

__all__ = [
    "Decision",
    "Difference",
    "HeldoutKey",
    "LookLedger",
    "LookedArm",
    "Registration",
    "Selection",
    "analyse",
    "bucket",
    "check_disjoint",
    "check_document",
    "decide",
    "differences",
    "freeze_selection",
    "heldout_hash",
    "load",
    "load_selection",
    "make_registration",
    "open_look",
    "report_bytes",
    "require_key",
    "require_same",
    "resume_look",
    "save",
    "task_record",
    "tuned_parameters",
    "verify",
]

_LATE = {
    "analyse": "analysis",
    "report_bytes": "analysis",
    "verify": "verification",
}  # these load pyarrow: half a second


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
