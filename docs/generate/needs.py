"""What a strategy or a system wants observed, in words."""

from __future__ import annotations

from collections.abc import Iterator

from designspace.axes import Needs


def needs_list(needs: Needs) -> str:
    """Return the needs as a list."""
    return "\n".join(f"* {line}" for line in _lines(needs)) or "Nothing but keys, values and positions."


def _lines(needs: Needs) -> Iterator[str]:
    if needs.queries:
        yield f"the newest {needs.queries} queries of every query head"
    if needs.accumulated:
        yield "the attention that each token has received so far"
    if needs.last:
        yield "the attention of the newest query"
    for tracker in needs.trackers:
        numbers = f"{tracker.channels} number{'s'[: tracker.channels != 1]}"
        yield f"the tracker `{type(tracker).__name__}`: {numbers} per token and KV head"
    for gate in needs.gates:
        yield f"the gate `{type(gate).__name__}`: a number per token and KV head, from a trained network"
    for name in needs.calibrations:
        yield f"the calibration `{name}`, which `designspace calibrate MODEL {name}` measures"
    if needs.output_projection:
        yield "the weights that turn a head's output into the residual stream"
    if needs.layer_cosine:
        yield "how little each layer's attention turned the residual stream over the prompt"
    if needs.foresight:
        yield "what the full cache's text attends to later: the prompt is run with the full cache first"
    if needs.sentences:
        yield "where sentences end, and the mean hidden state of each"
