"""How an entry of the catalogue is composed."""

from __future__ import annotations

from designspace.axes import Cadence, Decoding, HeadRouting, Mechanism, Representation, Scoring
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision

PAPER = "sun2026minimal"  # the source of alpha and of the seven rejected mechanisms
# Of triattention and alpha: with the released trigger their caches would differ from those of the arms that they are
# compared with until the first event, which in short texts is a large part of the mean.
TRIGGER = (
    "events at the prompt and every k steps, as in the arms beside it; released: at 128 above, in decoding (cadence)"
)


def system(
    name: str,
    summary: str,
    citation: str | None,
    scoring: Scoring,
    cadence: Cadence,
    head_routing: HeadRouting | None = None,
    *,
    representation: Representation | None = None,
    decoding: Decoding | None = None,
    choices: tuple[str, ...] = (),
) -> Mechanism:
    """Return a mechanism; an axis that is left out is at its baseline."""
    return Mechanism(
        name=name,
        scoring=scoring,
        head_routing=head_routing or Uniform(),
        cadence=cadence,
        representation=representation or FullPrecision(),
        decoding=decoding,
        citation=citation,
        summary=summary,
        choices=choices,
    )
