"""Published systems as compositions of the five axes, with their published parameters and citation keys.

An axis that an entry leaves out is at its baseline: head routing `uniform`, representation `full`, and the decoding of
the sweep's generation settings. `choices` names the points that the published text leaves open or that a bounded cache
changes, and the parameter that changes each of them.
"""

from __future__ import annotations

from families.catalog import (
    cadences,
    decodings,
    head_routings,
    prompt_kept,
    references,
    rejected,
    representations,
    scorings,
    selectors,
    trained_scorings,
)

_PARTS = (
    references,
    prompt_kept,
    scorings,
    trained_scorings,
    selectors,
    head_routings,
    cadences,
    representations,
    decodings,
    rejected,
)

CATALOG = {system.name: system for part in _PARTS for system in part.SYSTEMS}
