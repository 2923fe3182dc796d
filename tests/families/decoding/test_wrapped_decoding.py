"""What all decodings around a chooser promise: identity settings, batch invariance, nothing left behind, legal company."""

from __future__ import annotations

from typing import Any

import pytest

from designspace.axes import Budget, Decoding, Request
from designspace.errors import DeclarationError
from families.cadence.every_k import EveryK
from families.decoding.budget_forcing import BudgetForcing
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from families.decoding.state_emit import StateEmit
from families.decoding.thought_aware import ThoughtAware
from families.decoding.wrapped_decoding import Wrapping, is_greedy
from families.head_routing.ada_kv import AdaKV
from families.representation.kivi import Kivi
from tests.families.decoding.toy import (
    CUE,
    NEWLINES,
    STATE,
    TAG,
    WAIT,
    compose,
    engine,
    everything,
    model,
    request,
    run,
    scripted,
)

NL = NEWLINES[0]
SAMPLING = Sampling(temperature=1.0, top_p=1.0)
IDENTITIES: list[Wrapping] = [
    ChainOfThought(text=""), Refresh(every=10_000), Rollback(threshold=0.0), Rollback(retries=0), Rollback(per_checkpoint=0),
    ThoughtAware(mode="off"), BudgetForcing(waits=0, max_thinking=None), StateEmit(instruction="", most=0),
    SelfConsistency(samples=1),
]  # fmt: skip
# These watch the text, and never see what they wait for.
IDLE: list[Wrapping] = [
    ThoughtAware(tag="w0 w0 w0 "), ThoughtAware(mode="drop-thought", tag="w0 w0 w0 "),
    BudgetForcing(waits=3, max_thinking=10_000, tag="w0 w0 w0 ", answer_cue="FinalAnswer"),
    StateEmit(marker="w0 w0 w0 ", most=100),
]  # fmt: skip
AXES: list[dict[str, Any]] = [{}, {"cadence": EveryK(k=4), "head_routing": AdaKV(floor=0.3)}]
# Every one of these acts on the scripts below, on some rows more than once.
ACTING: list[Wrapping] = [
    Refresh(every=5), Rollback(threshold=1.0, retries=2), Rollback(threshold=1.0, retries=3, per_checkpoint=3, heat=4.0),
    ThoughtAware(), ThoughtAware(mode="drop-thought", last=3), StateEmit(most=8),
    BudgetForcing(waits=2, max_thinking=15, answer_cue="FinalAnswer"),
]  # fmt: skip
SCRIPTS = {
    "p0": [50, NL, *STATE, 51, 52, NL, 53, *TAG, 54, NL, *STATE, 55, NL, *TAG, 56, 57, 58, NL, 59],
    "p1": [*STATE, 60, NL, 61, 62, 63, 64, NL, 65, 66, NL, 67, *TAG, *STATE, 68, 69, NL, 70, 71, 72],
    "p2": [*TAG, 73, 74, NL, 75, 76, *TAG, 77, *STATE, 78, NL, 79, 80, 81, 82, NL, 83, 84, 85],
    "p3": [86, 87, 88, 89, 90, NL, 91, 92, 93, *STATE, 94, NL, 95, 96, *TAG, 2, 3, NL, 4, 5, 6],
    "p4": [NL, NL, *STATE, NL, 2, 3, NL, 4, *TAG, 5, 6, 7, 8, NL, *STATE, 9, 12, NL, 13, 14],
}
LENGTHS = {"p0": 12, "p1": 5, "p2": 20, "p3": 9, "p4": 16}


def asked(*names: str) -> list[Request]:
    """Return requests of mixed length."""
    return [request(name, LENGTHS[name]) for name in names]


@pytest.mark.parametrize("axes", AXES, ids=["h2o", "ragged"])
@pytest.mark.parametrize("decoding", IDENTITIES + IDLE, ids=str)
def test_identity_settings_are_the_chooser_alone(decoding: Wrapping, axes: dict[str, Any]) -> None:
    """Tokens and ledger are the same to the last bit, for sampling, after several cuts."""
    base = run(compose(SAMPLING, **axes), *asked(*SCRIPTS))
    wrapped = run(compose(decoding.with_default_chooser(SAMPLING), **axes), *asked(*SCRIPTS))

    assert all(g.n_events > 1 for g in base)
    assert [everything(g) for g in base] == [everything(g) for g in wrapped]


@pytest.mark.parametrize("decoding", ACTING, ids=str)
def test_the_cases_below_do_something(decoding: Wrapping) -> None:
    """Each steered decoding changes tokens, ledger or cost of most of these scripts."""
    chooser = scripted(SCRIPTS)
    base = run(compose(chooser), *asked(*SCRIPTS))
    steered = run(compose(decoding.with_default_chooser(chooser)), *asked(*SCRIPTS))

    if not isinstance(decoding, StateEmit):  # pins move no size
        assert sum(everything(a) != everything(b) for a, b in zip(base, steered, strict=True)) >= 4


@pytest.mark.parametrize(
    "axes",
    [*AXES, {"cadence": EveryK(k=4), "representation": Kivi(bits=4, group=4, residual=4)}],
    ids=["h2o", "ragged", "kivi"],
)
@pytest.mark.parametrize("decoding", ACTING, ids=str)
def test_a_steered_row_does_not_depend_on_the_batch(decoding: Wrapping, axes: dict[str, Any]) -> None:
    """Alone, among others, in another order and place: the same tokens and the same account at fixed rows."""
    mechanism = compose(decoding.with_default_chooser(scripted(SCRIPTS)), **axes)
    together = {g.problem_id: everything(g) for g in run(mechanism, *asked(*SCRIPTS))}
    shuffled = {g.problem_id: everything(g) for g in run(mechanism, *asked("p3", "p4", "p0", "p2", "p1"))}

    assert together == shuffled
    for name in SCRIPTS:
        assert together[name] == everything(run(mechanism, *asked(name))[0])


@pytest.mark.parametrize("decoding", [d for d in ACTING if not isinstance(d, BudgetForcing)], ids=str)
def test_a_sampled_steered_row_does_not_depend_on_the_batch(decoding: Wrapping) -> None:
    """The same with tokens that hang on the cache: every second word is a newline, so that lines end often."""
    often = Rollback(threshold=1.0, retries=3, boundary="w") if isinstance(decoding, Rollback) else decoding
    mechanism = compose(often.with_default_chooser(SAMPLING))
    together = {g.problem_id: everything(g) for g in run(mechanism, *asked(*SCRIPTS))}

    assert {g.problem_id: everything(g) for g in run(mechanism, *asked("p4", "p1"))}.items() <= together.items()


@pytest.mark.parametrize("decoding", ACTING, ids=str)
def test_nothing_is_left_behind(decoding: Wrapping) -> None:
    """In an engine of one row, a sample after others (pins, holds, heat, checkpoints) is what it is in a fresh engine."""
    mechanism = compose(
        decoding.with_default_chooser(SAMPLING)
        if isinstance(decoding, Rollback)
        else decoding.with_default_chooser(scripted(SCRIPTS))
    )
    if isinstance(decoding, Rollback):
        mechanism = compose(
            Rollback(threshold=1.0, retries=9, per_checkpoint=9, heat=4.0, boundary="w", decoding=SAMPLING)
        )
    used = engine(mechanism, rows=1)
    first = [everything(g) for g in used.generate(asked("p0", "p1", "p2"))]
    again = [everything(g) for g in used.generate(asked("p2", "p0"))]

    assert not used.cache.pinned.any()
    assert everything(run(mechanism, *asked("p2"), rows=1)[0]) == first[2] == again[0]
    assert everything(run(mechanism, *asked("p0"), rows=1)[0]) == first[0] == again[1]


def test_a_missing_chooser_is_filled_in_at_the_innermost_place() -> None:
    """Also through a decoding that only adds to the prompt; a chooser that is there stays."""
    assert Refresh(every=3).with_default_chooser(SAMPLING) == Refresh(every=3, decoding=SAMPLING)
    assert SelfConsistency(decoding=ChainOfThought()).with_default_chooser(SAMPLING) == SelfConsistency(
        decoding=ChainOfThought(decoding=SAMPLING)
    )
    given = Refresh(decoding=Greedy())
    assert given.with_default_chooser(SAMPLING) is given


def test_a_missing_chooser_is_refused_when_it_is_needed() -> None:
    """Never filled in, it is named at the first token."""
    with pytest.raises(DeclarationError, match="decoding 'refresh' needs a chooser, got decoding=None"):
        run(compose(Refresh()), *asked("p0"))


@pytest.mark.parametrize(
    "inner", [Refresh(), Rollback(), ThoughtAware(), BudgetForcing(), StateEmit(), SelfConsistency(samples=2)], ids=str
)
@pytest.mark.parametrize("outer", [Refresh, Rollback, SelfConsistency, ChainOfThought])
def test_only_a_plain_chooser_may_stand_inside(outer: type[Wrapping], inner: Decoding) -> None:
    """Nothing that steers or samples several times; neither when it is given nor when it is filled in."""
    with pytest.raises(
        DeclarationError, match=f"inside '{outer.kind}' must be a plain chooser.*got decoding='{inner.kind}'"
    ):
        outer(decoding=inner)
    with pytest.raises(DeclarationError, match="must be a plain chooser"):
        outer().with_default_chooser(inner)


def test_the_chooser_is_part_of_the_identity() -> None:
    """The same wrapping around another chooser is another cell."""
    assert Refresh(every=3, decoding=Greedy()).identity() == {
        "kind": "refresh", "version": 1, "every": 3, "decoding": {"kind": "greedy", "version": 1}
    }  # fmt: skip


def test_greedy_is_recognised_through_wrappings() -> None:
    """An open chooser counts as random until it is known."""
    assert is_greedy(Greedy())
    assert is_greedy(ChainOfThought(decoding=Greedy()))
    assert not is_greedy(ChainOfThought())
    assert not is_greedy(SAMPLING)
    assert not is_greedy(None)


def test_texts_that_the_model_cannot_write_are_refused_when_the_engine_is_made() -> None:
    """Not in the middle of a run."""
    for decoding in (Rollback(boundary="\t"), StateEmit(end="\t")):
        with pytest.raises(DeclarationError, match=r"must be part of a token of the model, got (boundary|end)='\\t'"):
            engine(compose(decoding.with_default_chooser(SAMPLING)))
    with pytest.raises(ValueError):
        engine(compose(ThoughtAware(tag="§", decoding=SAMPLING)))


def test_a_wrapping_works_on_its_own_in_the_engine_of_any_toy() -> None:
    """Words of the toy vocabulary come apart as the scripts here assume."""
    assert model().token_ids("</think>") == TAG
    assert model().token_ids("State:") == STATE
    assert model().token_ids("Wait") + model().token_ids("FinalAnswer") == WAIT + CUE
    assert model().ids_with("\n") == set(NEWLINES)
    assert model().ids_with("State") == {STATE[0]}
    assert Budget(10) == Budget(10, "mean")
