"""What a strategy wants observed while the model runs."""

from __future__ import annotations

from dataclasses import dataclass

from designspace.axes.gates import Gate
from designspace.axes.trackers import Tracker
from designspace.errors import InvariantViolation


@dataclass(frozen=True)
class Needs:
    """What a strategy wants observed while the model runs; nothing else is collected or paid for.

    Attributes:
        queries: number of most recent post-RoPE queries to keep per row (0 = none).
        accumulated: running sum of the attention mass that each held slot received, group mean, float32.
        last: the attention row of the newest query.
        trackers: per-slot numbers to keep up to date from every row of attention, or at every event.
        gates: per-slot numbers that a trained network gives a token when it comes; their artefacts join `calibrations`.
        calibrations: names of calibration artefacts.
        output_projection: the weights that turn head outputs into the residual stream.
        layer_cosine: how little each layer's attention turned the residual stream over the prompt.
        foresight: what the text that the full cache writes for the same prompt attends to later.
        sentences: pieces of text; a token that is the last of one of them ends a sentence. Kept are where the sentences of a
            text end and the mean hidden state of each.
        keys, values: what the slots hold, which an event then fetches, decoded where they are held as codes. What no strategy
            of a mechanism declares is not copied.
    """

    queries: int = 0
    accumulated: bool = False
    last: bool = False
    trackers: tuple[Tracker, ...] = ()
    calibrations: tuple[str, ...] = ()
    output_projection: bool = False
    layer_cosine: bool = False
    foresight: bool = False
    gates: tuple[Gate, ...] = ()
    sentences: tuple[str, ...] = ()
    keys: bool = False
    values: bool = False

    def __post_init__(self) -> None:
        """Add the calibrations that hold the gates' weights, and check that the trackers can work on what is declared.

        Raises:
            InvariantViolation: a tracker reads more queries at an event than are kept, or keys or values that are not fetched.
        """
        named = tuple(sorted({*self.calibrations, *(gate.artefact for gate in self.gates)}))
        object.__setattr__(self, "calibrations", named if self.gates else self.calibrations)
        for tracker in self.trackers:
            if tracker.queries > self.queries:
                raise InvariantViolation(
                    f"needs must keep the {tracker.queries} queries that {tracker} reads at an event, got "
                    f"queries={self.queries}"
                )
            for name in ("keys", "values"):
                if getattr(tracker, name) and not getattr(self, name):
                    raise InvariantViolation(
                        f"{tracker} reads {name} at an event: add {name}=True to the needs that ask for it"
                    )

    def __or__(self, other: Needs) -> Needs:
        """Return the union of two declarations.

        Raises:
            InvariantViolation: they have sentences end differently; one text is divided in one way.
        """
        if self.sentences and other.sentences and self.sentences != other.sentences:
            raise InvariantViolation(
                f"sentences of one mechanism must end alike, got {self.sentences} and {other.sentences}"
            )
        return Needs(
            max(self.queries, other.queries),
            self.accumulated or other.accumulated,
            self.last or other.last,
            tuple(dict.fromkeys(self.trackers + other.trackers)),
            tuple(sorted({*self.calibrations, *other.calibrations})),
            self.output_projection or other.output_projection,
            self.layer_cosine or other.layer_cosine,
            self.foresight or other.foresight,
            tuple(dict.fromkeys(self.gates + other.gates)),
            self.sentences or other.sentences,
            self.keys or other.keys,
            self.values or other.values,
        )

    @property
    def per_slot(self) -> tuple[Tracker | Gate, ...]:
        """Whatever keeps numbers with every slot."""
        return (*self.trackers, *self.gates)

    @property
    def hidden_states(self) -> bool:
        """Whether tokens' hidden states are read when they come."""
        return bool(self.gates or self.sentences)

    @property
    def weights(self) -> bool:
        """Whether attention probabilities must be formed."""
        return self.accumulated or self.last or any(tracker.observes for tracker in self.trackers)
