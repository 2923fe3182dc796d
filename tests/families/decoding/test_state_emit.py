"""State lines: which are found, that they stay, and that they do not make the cache larger."""

from __future__ import annotations

import pytest

from designspace.axes import Budget, Generation, Request
from designspace.engine import Engine
from designspace.errors import DeclarationError
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.decoding.sampling import Sampling
from families.decoding.state_emit import StateEmit
from families.scoring.streaming_llm import StreamingLLM
from tests.families.decoding.toy import NEWLINES, STATE, compose, engine, everything, model, request, scripted

NL, DOT_NL = NEWLINES


def pins(text: list[int], **parameters: object) -> list[tuple[int, int]]:
    """Return the spans that a fresh controller pins."""
    controller = StateEmit(**parameters).controller(model())  # type: ignore[arg-type]
    assert controller is not None
    return [action.pin for token in text if (action := controller.on_token(token, 0.5)).pin is not None]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ([*STATE, 50, 51, NL, 52], [(0, 5)]),  # the first line
        ([50, NL, *STATE, 51, DOT_NL, *STATE, NL], [(2, 6), (6, 9)]),  # any token with a newline in it ends a line
        ([50, *STATE, 51, NL], [(1, 5)]),  # within a line: from the marker on
        ([50, NL, STATE[0], 51, NL, STATE[1], NL], []),  # half a marker
        ([50, NL, *STATE, 51, 52], []),  # a line that does not end
        ([NL, NL, *STATE, NL, NL], [(2, 5)]),
    ],
)
def test_lines_that_begin_with_the_marker_are_pinned_whole(text: list[int], spans: list[tuple[int, int]]) -> None:
    """From the marker to the token that ends the line."""
    assert pins(text) == spans


def test_the_cap() -> None:
    """A line that would go beyond the cap is not pinned; a shorter one after it still may be."""
    long, short = [*STATE, 50, 51, 52, NL], [*STATE, NL]
    text = [*long, *long, *short, *short]

    assert pins(text, most=100) == [(0, 6), (6, 12), (12, 15), (15, 18)]
    assert pins(text, most=9) == [(0, 6), (12, 15)]
    assert pins(text, most=5) == [(12, 15)]
    assert pins(text, most=2) == []


def finished(running: Engine, asked: Request) -> tuple[Generation, list[set[int]]]:
    """Run one request; return the generation and the positions every head holds at its end."""
    heads: list[set[int]] = []
    retire = running.cache.retire

    def remembering_retire(row: int) -> None:
        heads.extend({p for p in head.tolist() if p >= 0} for head in running.cache.positions[:, row].flatten(0, 1))
        retire(row)

    running.cache.retire = remembering_retire  # type: ignore[method-assign]
    (made,) = running.generate([asked])
    return made, heads


@pytest.mark.parametrize("cadence", [EveryStep(), EveryK(k=4)], ids=lambda c: c.kind)
def test_pinned_lines_stay_and_count_in_the_budget(cadence: object) -> None:
    """With a sliding window, the state lines are all that is left of the text before it; sizes are the base's."""
    script = [50, NL, *STATE, 51, NL, *range(52, 62), NL, *STATE, NL, *range(62, 72)]
    chooser = scripted({"p0": script})
    axes = {"scoring": StreamingLLM(sinks=1), "cadence": cadence}
    base, without = finished(engine(compose(chooser, **axes), Budget(14), rows=1), request())
    made, heads = finished(engine(compose(StateEmit(decoding=chooser), **axes), Budget(14), rows=1), request())
    lines = {*range(14, 18), *range(29, 32)}

    assert len(heads) == 4
    assert all(lines <= held for held in heads)
    assert not any({14, 15, 16, 17} & held for held in without)
    assert made.cache_tokens_per_step == base.cache_tokens_per_step
    assert made.n_extra_tokens == 0


def test_what_is_not_pinned_goes() -> None:
    """Capped at the first line, the second one slides out of the window like the rest."""
    script = [*STATE, 51, NL, *STATE, 52, NL, *range(53, 73)]
    axes = {"scoring": StreamingLLM(sinks=1)}
    rule = StateEmit(most=5, decoding=scripted({"p0": script}))
    _, heads = finished(engine(compose(rule, **axes), Budget(12), rows=1), request())

    assert all({12, 13, 14, 15} <= held and not {16, 17, 18, 19} & held for held in heads)


def test_pins_do_not_outlive_the_text() -> None:
    """The next sample of the row keeps nothing at those positions."""
    scripts = {"p0": [*STATE, 50, NL, *range(51, 70)], "p1": list(range(50, 80))}
    mechanism = compose(StateEmit(decoding=scripted(scripts)), scoring=StreamingLLM(sinks=1))
    used = engine(mechanism, Budget(12), rows=1)
    list(used.generate([request("p0")]))
    after, heads = finished(used, request("p1"))
    fresh, expected = finished(engine(mechanism, Budget(12), rows=1), request("p1"))

    assert everything(after) == everything(fresh)
    assert heads == expected
    assert not any({12, 13} & held for held in heads)


def test_the_instruction_follows_the_prompt() -> None:
    """As it is; empty asks for nothing."""
    assert StateEmit(instruction=" Say State:").format_prompt("2+2?") == "2+2? Say State:"
    assert '"State:"' in StateEmit().format_prompt("2+2?")
    assert StateEmit(instruction="").format_prompt("2+2?") == "2+2?"
    assert StateEmit(most=0).controller(model()) is None


def test_other_markers() -> None:
    """Marker and end are texts of the model's own vocabulary."""
    assert pins([50, 23, 30, 51, 23, *STATE, NL], marker="Wait", end="<end>") == [(2, 5)]


@pytest.mark.parametrize("bad", [{"most": -1}, {"marker": ""}, {"end": ""}])
def test_bad_parameters(bad: dict[str, object]) -> None:
    """Refused with the rule and what was got."""
    (name,) = bad
    with pytest.raises(DeclarationError, match=f"{name} must .*got {name}="):
        StateEmit(**bad, decoding=Sampling())  # type: ignore[arg-type]
