"""The arms of a sweep as the look ledger knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from designspace.axes import Mechanism
from designspace.canonical import canonical_json
from designspace.protocol import LookedArm


def looked_arms(mechanisms: Iterable[Mechanism]) -> dict[str, LookedArm]:
    """Return each mechanism's hash and family, by its name."""
    return {
        mechanism.name: LookedArm(
            hashlib.sha256(canonical_json(mechanism.identity()).encode()).hexdigest(), mechanism.scoring.kind
        )
        for mechanism in mechanisms
    }
