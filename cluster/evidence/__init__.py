"""Register, tune, confirm, amend, verify: the protocol of `designspace.protocol` run on a study file and a store."""

from cluster.evidence.confirm import Confirmed, confirm, verify
from cluster.evidence.register import amend, register
from cluster.evidence.tune import tune

__all__ = ["Confirmed", "amend", "confirm", "register", "tune", "verify"]
