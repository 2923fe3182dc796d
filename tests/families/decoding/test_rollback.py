"""Rollback: when a line is rejected, what is written then, that a row really is as it was, and what it costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch

from designspace.axes import Action, Budget, Controller
from designspace.engine import Engine, EngineHook, RowState
from designspace.errors import DeclarationError
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.representation.kivi import Kivi
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV
from families.scoring.triattention import TriAttention
from tests.conftest import start, toy_statistics
from tests.families.decoding.toy import NEWLINES, compose, engine, everything, model, request, run, scripted, uncut

NL, DOT_NL = NEWLINES
SAMPLING = Sampling(temperature=1.0, top_p=1.0)


def told(rule: Rollback, *seen: tuple[int, float]) -> list[str]:
    """Return what a fresh controller does with tokens and probabilities: checkpoints (c), returns (r), nothing (-)."""
    controller = rule.controller(model())
    assert controller is not None
    return [word(controller.on_token(token, probability)) for token, probability in seen]


def word(action: Action) -> str:
    """Return an action in a letter, with the heat it sets."""
    letter = "r" if action.rollback else "c" if action.checkpoint else "-"
    return letter + ("" if action.temperature_scale is None else f"{action.temperature_scale:g}")


@pytest.mark.parametrize(
    ("confidence", "threshold", "outcome"),
    [("min", 0.5, "c1"), ("min", 0.51, "r1.5"), ("mean", 0.75, "c1"), ("mean", 0.76, "r1.5"), ("min", 1.0, "r1.5")],
)
def test_confidence_of_a_line(confidence: Any, threshold: float, outcome: str) -> None:
    """Of .9, .5, .85 the minimum is .5 and the mean .75; the first token, at .1, stands before the checkpoint."""
    rule = Rollback(threshold=threshold, confidence=confidence)

    assert told(rule, (50, 0.1), (51, 0.9), (52, 0.5), (NL, 0.85)) == ["c", "-", "-", outcome]


def test_each_line_is_judged_by_itself() -> None:
    """An unsure line does not count against the next one, nor does the rejected attempt against its retry."""
    rule = Rollback(threshold=0.5, retries=2)

    done = told(
        rule, (50, 1.0), (51, 0.1), (NL, 0.9), (52, 0.6), (DOT_NL, 0.6), (53, 0.6), (NL, 0.6), (54, 0.1), (NL, 1.0)
    )

    assert done == ["c", "-", "r1.5", "-", "c1", "-", "c1", "-", "r1.5"]


@pytest.mark.parametrize(
    ("retries", "per_checkpoint", "expected"),
    [(4, 1, "rcrcrcrcc"), (2, 1, "rcrcccccc"), (4, 3, "rrrcrcccc"), (1, 5, "rcccccccc"), (9, 9, "rrrrrrrrr")],
)
def test_returns_are_limited_per_text_and_per_checkpoint(retries: int, per_checkpoint: int, expected: str) -> None:
    """Nine unsure lines: where a return is no longer allowed the line stands and the next checkpoint starts afresh."""
    rule = Rollback(threshold=0.5, retries=retries, per_checkpoint=per_checkpoint)
    done = told(rule, (50, 1.0), *[(NL, 0.1)] * 9)

    assert "".join(x[0] for x in done[1:]) == expected


def test_rejected_lines_are_written_again() -> None:
    """Threshold 1 rejects whatever it may: the text is the script without the rejected lines, which are charged."""
    script = [50, 51, NL, 52, 53, NL, 54, 55, DOT_NL, 56, NL, 57, NL, 58]
    rule = Rollback(threshold=1.0, retries=2, decoding=scripted({"p0": script}))
    n_rejected = 2 + 3
    (made,) = run(uncut(rule), request(), budget=None, n_new=len(script) - n_rejected)

    assert list(made.token_ids) == [50, 52, 53, NL, 56, NL, 57, NL, 58]
    assert made.n_extra_tokens == n_rejected
    assert made.n_steps == made.n_new_tokens - 1 + n_rejected
    # A full cache of 12 tokens: one more each step, back to 12 and 15 after the returns.
    assert list(made.cache_tokens_per_step) == [13, 14, 13, 14, 15, 16, 17, 18, 16, 17, 18, 19, 20]
    assert made.peak_cache_tokens == 20


class Once(Controller):
    """Takes a checkpoint at the fifth token that it sees and leaves the rest alone."""

    def __init__(self) -> None:
        self.n_tokens = 0

    def on_token(self, token: int, probability: float) -> Action:
        """Count."""
        self.n_tokens += 1
        return Action((token,), checkpoint=self.n_tokens == 5)


AXES: list[dict[str, Any]] = [
    {}, {"scoring": SnapKV(recent=3, kernel=3)}, {"scoring": TriAttention(offset_max=64)},
    {"head_routing": AdaKV(floor=0.3)}, {"representation": Kivi(bits=4, group=4, residual=4)},
]  # fmt: skip


@pytest.mark.parametrize("axes", AXES, ids=["h2o", "snapkv", "triattention", "ada-kv", "kivi"])
def test_the_same_random_numbers_after_a_return_give_the_same_text(axes: dict[str, Any]) -> None:
    """After twelve steps and a return, the row goes on bit for bit as it did: tokens, sizes, slots, observations."""
    rule = Rollback(threshold=0.5, decoding=SAMPLING)
    mechanism = compose(rule, **({"cadence": EveryK(k=4)} | axes))
    running = Engine(
        model(),
        mechanism,
        Budget(10),
        rows=2,
        max_new_tokens=40,
        max_prompt_tokens=20,
        artefacts=toy_statistics(model()),
    )
    with torch.inference_mode():
        start(running, 0, request("p0"))
        start(running, 1, request("p1", 17))
        state = running.in_flight[0]
        state.controller = Once()
        while len(state.checkpoint.tokens) < 6:
            list(running.decode_burst())
        n_draws = state.n_draws
        outcomes = []
        for _ in range(2):
            account = state.account
            n_recorded = account.columns().shape[1]
            for _ in range(12):
                list(running.decode_burst())
            outcomes.append((list(state.tokens), running.cache.snapshot(0), account.columns()[1, n_recorded:].tolist()))
            state.roll_back(state.checkpoint, running.cache)
            running.runner.next_tokens[0], state.n_draws = state.tokens[-1], n_draws

    (tokens, before, bytes_before), (again, after, bytes_after) = outcomes
    assert tokens == again
    assert len(tokens) == 6 + 12
    assert bytes_before == bytes_after
    held = before.tensors["positions"] >= 0
    assert torch.equal(before.tensors["positions"], after.tensors["positions"])
    assert before.next_position == after.next_position
    for name, kept in before.store.items():
        if name in ("keys", "values"):
            assert torch.equal(kept[held], after.store[name][held])
    for name in ("accumulated", "queries", "query_positions"):
        kept, found = getattr(before.observed, name), getattr(after.observed, name)
        assert kept is None or torch.equal(kept, found)


def test_a_return_does_not_touch_the_other_rows() -> None:
    """Mates of a row that returns four times write what they write alone."""
    rule = Rollback(threshold=1.0, boundary="w", retries=4, per_checkpoint=4, decoding=SAMPLING)
    mechanism, asked = compose(rule), (request("p0"), request("p1", 7), request("p2", 21))
    busy = run(mechanism, *asked)

    assert [everything(g) for g in busy] == [everything(run(mechanism, r)[0]) for r in asked]
    assert all(g.n_extra_tokens >= 4 for g in busy)


@pytest.mark.parametrize(
    "axes", [{}, {"cadence": EveryK(k=4)}, {"head_routing": AdaKV(floor=0.3)}], ids=["step", "k", "ragged"]
)
@pytest.mark.parametrize("threshold", [1e-9, 1.0])
def test_what_a_checkpoint_keeps_is_charged_at_every_step(axes: dict[str, Any], threshold: float) -> None:
    """Counted head by head: the slots, and the checkpoint's tokens that are in the slots no longer."""
    script = [50, 51, 52, NL, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, NL, 64, 65, NL, 66, 67, 68, 69, 70, 71, 72]
    rule = Rollback(threshold=threshold, retries=2, decoding=scripted({"p0": script}))
    running = engine(compose(rule, **axes), rows=1, n_new=20)
    sizes, held_bytes = counted(running)
    (made,) = running.generate([request()])

    assert list(made.cache_tokens_per_step) == pytest.approx(sizes)
    assert made.mean_cache_bytes == pytest.approx(sum(held_bytes) / len(held_bytes))
    assert made.peak_cache_tokens == max(sizes) > 10


def counted(running: Engine) -> tuple[list[float], list[int]]:
    """Make an engine note at every step what it really must hold; returns tokens per head and bytes."""
    sizes: list[float] = []
    held_bytes: list[int] = []
    geometry = running.cache.geometry

    class Counting(EngineHook):
        """Counts the first row's tokens, in slots and in its checkpoint."""

        def on_step(self, states: Collection[RowState]) -> None:
            """Count."""
            saved = running.in_flight[0].checkpoint
            total = 0
            for layer in range(geometry.n_layers):
                for head in range(geometry.n_kv_heads):
                    wanted = set(running.cache.positions[layer, 0, head].tolist())
                    if saved is not None:
                        wanted |= set(saved.cache.tensors["positions"][layer, head].tolist())
                    total += len(wanted - {-1})
            sizes.append(total / geometry.n_heads_total)
            held_bytes.append(total * 2 * geometry.head_dim * 4)

    running.hook = Counting()
    return sizes, held_bytes


def test_watching_without_returning_changes_no_token() -> None:
    """A threshold that nothing falls below: the base's text and slots, at the price of the checkpoints."""
    watching = Rollback(threshold=1e-9, boundary="w", decoding=SAMPLING)
    (base,), (made,) = run(compose(SAMPLING), request()), run(compose(watching), request())

    assert made.token_ids == base.token_ids
    assert (made.n_extra_tokens, made.n_evicted) == (0, base.n_evicted)
    assert all(a <= b <= a + 1 for a, b in zip(base.cache_tokens_per_step, made.cache_tokens_per_step, strict=True))


def test_heat_divides_the_logits() -> None:
    """At heat 2 a row samples as a chooser of twice the temperature does, and its mates do not."""
    loaded, texts = model(), []
    for temperature, heat in ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0)):
        running = engine(compose(Sampling(temperature=temperature, top_p=0.9)), loaded=loaded)
        with torch.inference_mode():
            start(running, 0, request("p0"))
            start(running, 1, request("p1"))
            for row, heated in ((0, heat), (1, 1.0)):
                running.in_flight[row].tokens[-1] = running.runner.next_tokens[row] = 50
                running.in_flight[row].temperature_scale = heated
            for _ in range(15):
                list(running.decode_burst())
            texts.append([running.in_flight[row].tokens for row in (0, 1)])

    (cool, cool_mate), (heated, mate), (hot, _) = texts
    assert heated == hot != cool
    assert mate == cool_mate


def test_a_retry_draws_fresh_numbers() -> None:
    """There are as many as every retry may need, the chooser's own first."""
    assert Rollback(retries=4).draws(50) == 250
    assert Rollback(retries=0).draws(50) == 50
    rule = Rollback(threshold=1.0, retries=3, per_checkpoint=3, boundary="w", decoding=SAMPLING)
    running = engine(compose(rule), rows=1)
    with torch.inference_mode():
        start(running, 0, request())
        state = running.in_flight[0]
        for _ in range(10):
            list(running.decode_burst())

    assert state.n_draws == 11
    assert len(state.tokens) == 11 - 3
    assert len(state.uniforms) == 4 * 30


def test_a_greedy_chooser_is_refused() -> None:
    """It would write the same line again; without retries it may stand."""
    with pytest.raises(DeclarationError, match=r"must draw random numbers.*got decoding='greedy'"):
        Rollback(decoding=Greedy())
    with pytest.raises(DeclarationError, match="must draw random numbers"):
        Rollback().with_default_chooser(Greedy())
    assert Rollback(threshold=0.0).with_default_chooser(Greedy()) == Rollback(threshold=0.0, decoding=Greedy())


def test_a_row_on_hold_with_tokens_to_come_is_restored_as_that() -> None:
    """Tokens that were forced but not fed at the checkpoint are fed again, and a later hold is undone."""
    running = engine(compose(SAMPLING, scoring=H2O(recent=3)), rows=1)
    with torch.inference_mode():
        start(running, 0, request())
        state = running.in_flight[0]
        state.controller = Once()
        state.forced.extend((60, 61))
        state.set_checkpoint(running.cache)
        list(running.decode_burst())
        state.hold = True
        state.roll_back(state.checkpoint, running.cache)
        running.runner.next_tokens[0] = state.tokens[-1]
        list(running.decode_burst())
        list(running.decode_burst())

    assert state.tokens[-2:] == [60, 61]
    assert not state.hold


@pytest.mark.parametrize(
    "bad",
    [{"threshold": 1.1}, {"threshold": -0.1}, {"retries": -1}, {"per_checkpoint": -1}, {"heat": 0.5}, {"boundary": ""}],
)
def test_bad_parameters(bad: dict[str, Any]) -> None:
    """Refused with the rule and what was got."""
    (name,) = bad
    with pytest.raises(DeclarationError, match=f"{name} must .*got {name}="):
        Rollback(**bad)
