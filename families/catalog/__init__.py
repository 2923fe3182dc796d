"""Published systems as compositions of the five axes, with their reference defaults and citation keys.

An axis that an entry leaves out is at its baseline: head routing `uniform`, representation `full`, decoding as the sweep's
generation settings say. `choices` says what the published text leaves open or what a bounded cache makes of it, and which
parameter changes that.
"""

from __future__ import annotations

from families.catalog import (
    cadences,
    decodings,
    head_routings,
    references,
    rejected,
    representations,
    scorings,
    selectors,
)

_PARTS = (references, scorings, selectors, head_routings, cadences, representations, decodings, rejected)

CATALOG = {system.name: system for part in _PARTS for system in part.SYSTEMS}
