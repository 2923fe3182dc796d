"""`protect: prompt`: no token of a prompt is ever evicted, routing divides what is left, and what cannot hold it is refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from designspace.axes import AXES, Budget, Mechanism, Request, View
from designspace.axes.randomness import stream_key
from designspace.axes.window import WindowShare
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.compress import compress
from designspace.errors import DeclarationError, InvariantViolation
from designspace.registry import mechanism
from designspace.testing.conformance import check_mechanism
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.full import Full as FullScoring
from families.scoring.keydiff import KeyDiff
from families.scoring.random import Random
from families.scoring.selectors.top_k import TopK
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

PROMPT = tuple(range(3, 23))


def protecting(name: str, **axes: object) -> Mechanism:
    """Return a named system that keeps the prompt, decoding greedily."""
    arm = mechanism(name)
    scoring = replace(arm.scoring, protect="prompt")
    return arm.override(f"{name}+prompt", scoring=scoring, decoding=Greedy(), **axes)


def composed(scoring: object, cadence: object, routing: object | None = None) -> Mechanism:
    """Return a mechanism of these parts."""
    parts = dict.fromkeys(AXES) | {
        "scoring": scoring, "cadence": cadence, "head_routing": routing or Uniform(), "representation": FullPrecision(),
    }  # fmt: skip
    return Mechanism(name="composed", **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["random", "streaming-llm", "r-kv", "keydiff", "alpha"])
def test_every_invariant_holds(name: str) -> None:
    """Ledger, batch invariance, and after every step the whole prompt in every head."""
    arm = protecting(name)
    check_mechanism(arm, toy_model(), Budget(48), n_new_tokens=60)


def test_the_prompt_survives_and_is_counted() -> None:
    """A generation says so, and its cache is that of the budget."""
    for protect, survival in (("none", 0.0), ("prompt", 1.0)):
        scoring = StreamingLLM(sinks=0, protect=protect)  # type: ignore[arg-type]
        arm = composed(scoring, EveryStep()).override("recency", decoding=Greedy())
        engine = Engine(toy_model(), arm, Budget(32), rows=1, max_new_tokens=80, max_prompt_tokens=len(PROMPT))
        (made,) = engine.generate([Request("p", PROMPT, stream_key(1, "p", 0))])
        assert made.prompt_survival_mean == survival
        assert made.steady_mean_cache_tokens == 32


def test_head_routing_divides_what_the_prompt_leaves() -> None:
    """Ada-KV's shares of the rest, found on a view without the prompt, and the prompt on top in every head."""
    n_prompt, n_slots, target = 6, 20, 12
    torch.manual_seed(3)
    keys = torch.randn(1, 1, 2, n_slots, 8)
    context = {"n_prompt_tokens": n_prompt, "target": target}
    whole = view_of(keys, **context)
    view = replace(whole, context=replace(whole.context, protects_prompt=True))
    rest = view_of(keys[..., n_prompt:, :], n_prompt_tokens=0, target=target - n_prompt)
    scoring = KeyDiff(recent=0, protect="prompt")
    kept = compress(composed(scoring, EveryStep(), AdaKV()), view)

    # KeyDiff's scores depend on all keys that are held, so those of the rest are taken from the whole.
    scores = scoring.score(whole)[..., n_prompt:]
    shares = AdaKV().allocate(rest, scores, rest.target)
    assert torch.equal(kept.counts, shares + n_prompt)
    assert len(set(kept.counts.flatten().tolist())) > 1, "heads alike would prove little"
    assert torch.equal(kept.order[..., :n_prompt], torch.arange(n_prompt).expand(1, 1, 2, n_prompt))


@dataclass(frozen=True)
class Forgetful(TopK):
    """Keeps the newest, whatever is protected."""

    kind = "forgetful"

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the newest slots."""
        newest_rank = view.valid.flip(-1).cumsum(dim=-1).flip(-1) - 1
        return view.valid & (newest_rank < shares[..., None])


def test_the_engine_asserts_it() -> None:
    """A strategy that drops a token of the prompt stops the run, also where it could not have been afforded beside pins."""
    view = view_of(torch.randn(1, 1, 2, 20, 8), n_prompt_tokens=6, target=12)
    view = replace(view, context=replace(view.context, protects_prompt=True))
    with pytest.raises(InvariantViolation, match="'forgetful' dropped a token of a prompt that is protected"):
        compress(composed(StreamingLLM(selector=Forgetful(), sinks=0, protect="prompt"), EveryStep()), view)

    pinned = torch.zeros(1, 20, dtype=torch.bool)
    pinned[:, 8:18] = True  # more than the budget has room for beside the prompt
    kept = compress(composed(Random(recent=2, protect="prompt"), EveryStep()), replace(view, pinned=pinned))
    assert torch.equal(kept.order[..., :6], torch.arange(6).expand(1, 1, 2, 6))


def test_a_budget_without_room_is_refused_with_the_numbers() -> None:
    """Before the first token, by the engine too."""
    arm = composed(Random(recent=8, protect="prompt"), EveryStep()).override("random", decoding=Greedy())
    assert arm.bind(Budget(30), longest_prompt=20).low == 29
    reason = (
        r"protect: prompt needs an after-event size above the longest prompt \+ recent, got a prompt of 22 tokens, recent=8, "
        r"after-event size=29 \(budget 30\): 2 tokens too few"
    )
    with pytest.raises(DeclarationError, match=reason):
        arm.bind(Budget(30), longest_prompt=22)
    with pytest.raises(DeclarationError, match=reason):
        Engine(toy_model(), arm, Budget(30), rows=1, max_new_tokens=9, max_prompt_tokens=22)


def test_what_would_mean_nothing_is_refused() -> None:
    """A scoring that keeps everything, and a cadence that cuts prompts alone."""
    with pytest.raises(DeclarationError, match="'full' keeps every token, so protect: prompt would have no effect"):
        composed(FullScoring(protect="prompt"), Never())
    with pytest.raises(DeclarationError, match="'prefill-only' cuts the prompt alone, and protect: prompt keeps all"):
        composed(StreamingLLM(protect="prompt"), PrefillOnly())


def test_identities_are_those_of_before_where_nothing_is_protected() -> None:
    """`none` is no part of them, so results keep their ids; `prompt` is."""
    assert "protect" not in StreamingLLM().identity()
    assert StreamingLLM(protect="prompt").identity() == {**StreamingLLM().identity(), "protect": "prompt"}
    assert "group" not in mechanism("snapkv").scoring.identity(), "what a subclass added stays left out too"


def test_a_fresh_draw_survives_by_its_law() -> None:
    """(K / (K + r))^n over n events, within four standard errors of what so many heads and texts give."""
    size, interval, n_recent = 40, 8, 0
    arm = composed(Random(draw="per-event", recent=n_recent, protect="prompt"), EveryK(k=interval))
    arm = arm.override("random-attention", decoding=Greedy())
    loaded, n_prompt, n_texts = toy_model(), 8, 60
    engine = Engine(
        replace(loaded, eos_ids=frozenset()), arm, Budget(size, "nominal"), rows=20, max_new_tokens=90,
        max_prompt_tokens=n_prompt, burst=1,
    )  # fmt: skip
    watch = Survivors(engine, first=n_prompt, last=size)
    engine.hook = watch
    requests = [Request(f"p{i}", tuple(range(3, 3 + n_prompt)), stream_key(5, f"p{i}", 0)) for i in range(n_texts)]
    list(engine.generate(requests))
    n_free = size - n_prompt
    survival = n_free / (n_free + interval)
    n_trials = n_texts * loaded.geometry.n_heads_total * n_free
    for n_events in (1, 2, 3, 4):
        expected = survival**n_events
        found = watch.survived[n_events] / n_trials
        assert abs(found - expected) < 4 * (expected * (1 - expected) / n_trials) ** 0.5, n_events


class Survivors(EngineHook):
    """Counts how many of the tokens in [first, last) are still held after each number of events, over all texts."""

    def __init__(self, engine: Engine, first: int, last: int) -> None:
        self.engine, self.first, self.last = engine, first, last
        self.survived: dict[int, int] = {}
        self._seen: dict[tuple[str, int], bool] = {}

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Count a row's tokens once after each of its events."""
        for state in states:
            key = state.request.problem_id, state.account.n_events
            if key[1] and key not in self._seen:
                self._seen[key] = True
                positions = self.engine.cache.positions[:, state.index]
                n = int(((positions >= self.first) & (positions < self.last)).sum())
                self.survived[key[1]] = self.survived.get(key[1], 0) + n


def test_the_released_window_of_random_attention() -> None:
    """64 tokens at the released size of 1,024 + 64."""
    window = mechanism("random-attention").scoring.recent
    assert isinstance(window, WindowShare)
    assert window.tokens(1088) == 64
