"""Refresh: against a reference that runs the whole text under a mask, and its account."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from designspace.axes import Budget, Scoring, Selector, View
from designspace.axes.randomness import hash_uniform
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.hysteresis import Hysteresis
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid
from families.representation.kivi import Kivi
from families.scoring.h2o import H2O
from families.scoring.selectors.top_k import TopK
from tests.conftest import start
from tests.families.decoding.toy import N_NEW, compose, engine, everything, model, request, run, uncut


@dataclass(frozen=True)
class Reshuffled(Scoring):
    """Another ranking at every length of the text, the same in all heads: what was cut once may be wanted later."""

    kind: ClassVar[str] = "reshuffled"
    selector: Selector = field(default=TopK())

    def score(self, view: View) -> Tensor:
        """Return a hash of position and length."""
        return hash_uniform(view.positions, view.next_position[None, :, None, None])


def ranked(held: set[int], n_fed: int, size: int) -> set[int]:
    """Return the best `size` of the held positions at this length of the text."""
    mark = {p: float(hash_uniform(torch.tensor(p), torch.tensor(n_fed))) for p in held}
    return set(sorted(held, key=lambda p: (-mark[p], -p))[:size])


def reference(prompt: tuple[int, ...], size: int, interval: int, every: int) -> tuple[list[int], list[int]]:
    """Generate greedily by running the whole text through transformers under an explicit mask at every step.

    A position encoded in a full pass saw everything before it; one fed by itself saw what was held. Returns the tokens and
    the attended sizes.
    """
    loaded = model()
    config = copy.deepcopy(loaded.model.config)
    plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    plain.load_state_dict(loaded.model.state_dict())
    ids, sizes = list(prompt), []
    seen = {p: set(range(p + 1)) for p in range(len(prompt))}
    held = ranked(set(range(len(prompt))), len(prompt), size)
    for step in range(N_NEW):
        if step > 0:
            newest = len(ids) - 1
            held = held | {newest}
            seen[newest] = set(held)
            sizes.append(len(held))
            if step % interval == 0 and len(held) > size:
                held = ranked(held, len(ids), size)
        mask = torch.full((1, 1, len(ids), len(ids)), torch.finfo(torch.float32).min)
        for query, keys in seen.items():
            mask[0, 0, query, sorted(keys)] = 0.0
        with torch.inference_mode():
            logits = plain(input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0, -1]
        if (step + 1) % every == 0:
            seen = {p: set(range(p + 1)) for p in range(len(ids))}
            if len(held) < len(ids):
                held = ranked(set(range(len(ids))), len(ids), len(held))
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :], sizes


@pytest.mark.parametrize("every", [1, 3, 4, 7, 1000])
@pytest.mark.parametrize("interval", [1, 4])
def test_refresh_equals_the_reference(interval: int, every: int) -> None:
    """The text and the sizes are those of encoding everything anew and ranking all of it, the cut tokens included."""
    cadence = EveryStep() if interval == 1 else EveryK(k=4)
    expected, sizes = reference(request().prompt_ids, 8, interval, every)
    (made,) = run(
        compose(Refresh(every=every, decoding=Greedy()), scoring=Reshuffled(), cadence=cadence),
        request(),
        budget=Budget(8, "nominal"),
    )

    assert list(made.token_ids) == expected
    assert list(made.cache_tokens_per_step) == sizes


def test_the_reference_tells_refreshes_apart() -> None:
    """Other intervals give other texts, so that the test above can fail."""
    texts = {tuple(reference(request().prompt_ids, 8, 1, every)[0]) for every in (1, 3, 7, 1000)}

    assert len(texts) == 4


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("chooser", [Greedy(), Sampling(temperature=1.0)], ids=lambda c: c.kind)
def test_with_room_for_everything_a_refresh_changes_nothing(chooser: Greedy | Sampling, family: str) -> None:
    """At every step, under a budget above the longest text, and without any budget: the base's tokens."""
    loaded = model(family)
    for mechanism, budget in ((compose, Budget(100)), (uncut, None)):
        (base,) = run(mechanism(chooser), request(), budget=budget, loaded=loaded)
        (fresh,) = run(mechanism(Refresh(every=1, decoding=chooser)), request(), budget=budget, loaded=loaded)

        assert fresh.token_ids == base.token_ids
        assert fresh.cache_tokens_per_step == base.cache_tokens_per_step
        assert fresh.n_evicted == 0


@pytest.mark.parametrize(
    ("cadence", "budget"),
    [
        (EveryStep(), Budget(10)), (EveryK(k=4), Budget(10)), (EveryK(k=3), Budget(10)),
        (EveryK(k=4, prefill=False), Budget(10)), (Hysteresis(slack=4), Budget(10, "peak")),
        (PrefillOnly(), Budget(8, "nominal")),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    "axes",
    [
        {}, {"head_routing": AdaKV(floor=0.3)}, {"head_routing": Pyramid(beta=4.0)},
        {"representation": Kivi(bits=4, group=4, residual=4)},
    ],
    ids=["uniform", "ada-kv", "pyramid", "kivi"],
)  # fmt: skip
def test_a_refresh_leaves_the_sizes_alone(cadence: object, budget: Budget, axes: dict[str, object]) -> None:
    """What is held at every step is what the cadence alone says, in the capacity that the engine gives itself."""
    mechanism = compose(
        Refresh(every=3, decoding=Sampling(temperature=1.0)), scoring=H2O(recent=2), cadence=cadence, **axes
    )
    for length in (5, 12, 25):
        (made,) = run(mechanism, request(length=length), budget=budget, capacity=None)

        assert list(made.cache_tokens_per_step) == mechanism.bind(budget).simulate(length, made.n_steps)


def test_the_account_of_a_refresh() -> None:
    """Every refresh forwards prompt and text once more and holds them whole for a moment; the last token needs none."""
    (base,) = run(compose(Greedy()), request(), n_new=21)
    (made,) = run(compose(Refresh(every=7, decoding=Greedy())), request(), n_new=21)
    lengths = [12 + 7 - 1, 12 + 14 - 1]  # the newest token is yet to be fed; after 21 tokens nothing follows
    geometry = model().geometry

    assert made.n_extra_tokens == sum(lengths)
    assert made.peak_cache_tokens == max(lengths) > base.peak_cache_tokens
    assert made.peak_cache_bytes == max(lengths) * geometry.n_heads_total * 2 * geometry.head_dim * 4
    assert (made.n_steps, made.n_new_tokens, base.n_extra_tokens) == (20, 21, 0)
    assert made.mean_cache_bytes == base.mean_cache_bytes


def test_a_text_that_ends_is_not_encoded_again() -> None:
    """A refresh that falls on the end of the text is neither done nor charged."""
    (base,) = run(compose(Greedy()), request())
    loaded = replace(model(), eos_ids=frozenset({base.token_ids[5]}))
    n_new = base.token_ids.index(base.token_ids[5]) + 1
    (made,) = run(compose(Refresh(every=n_new, decoding=Greedy())), request(), loaded=loaded)

    assert (made.finish_reason, made.n_new_tokens, made.n_extra_tokens) == ("stop", n_new, 0)


def test_pins_and_prompt_length_outlive_a_refresh() -> None:
    """What is protected stays protected when the text is ranked anew."""
    running = engine(compose(Refresh(every=2, decoding=Greedy()), scoring=Reshuffled()), rows=1)
    with torch.inference_mode():
        start(running, 0, request())
        running.cache.pinned[0, 3:6] = True
        for _ in range(12):
            list(running.decode_burst())

    held = running.cache.positions[:, 0]
    assert all((held == p).any(dim=-1).all() for p in (3, 4, 5))
    assert int(running.cache.n_prompt_tokens[0]) == 12


def test_refreshing_is_repeatable() -> None:
    """The same run twice is the same."""
    mechanism = compose(Refresh(every=4, decoding=Sampling(temperature=1.0)))

    assert everything(run(mechanism, request())[0]) == everything(run(mechanism, request())[0])


def test_bad_interval() -> None:
    """Refused with the rule and what was got."""
    with pytest.raises(ValueError, match="every must be at least 1, got every=0"):
        Refresh(every=0)
