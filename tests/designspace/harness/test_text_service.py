"""Texts for harnesses: the engine's own, cut at stops, whatever else is asked for and when."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from designspace.axes import Budget, Generation, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError, UnknownName
from designspace.harness.service_thread import ServiceThread
from designspace.harness.text_service import Order, TextService, account
from designspace.models.loading import LoadedModel
from designspace.program.generated_text import GeneratedText
from designspace.program.load import load
from designspace.registry import mechanism
from designspace.tasks.task_spec import TaskSpec
from families.decoding.greedy import Greedy

CAP = 30


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """The smallest model that ships."""
    return load("pocket-llama")


@pytest.fixture(scope="module")
def prompts(model: LoadedModel) -> list[tuple[int, ...]]:
    """Three problems."""
    return [model.encode(problem.prompt) for problem in TaskSpec("chain-arithmetic", "dev", problems=3).load()]


def written(service: TextService, *orders: Order) -> list[GeneratedText]:
    """Return the texts, in the order of asking."""
    by_order = dict(service.write(deque(orders)))
    return [by_order[order] for order in orders]


def ledger(text: GeneratedText) -> Generation:
    """Return an account without its clock and its names."""
    return replace(text.ledger, wall_s=0.0, problem_id="", stream=b"")


def test_the_texts_are_the_engines(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """Of the shapes that a request has by itself: prompts up to 128 tokens, its cap."""
    greedy = mechanism("knorm").override("knorm", decoding=Greedy())
    engine = Engine(model, greedy, Budget(32), rows=2, max_new_tokens=CAP, max_prompt_tokens=128)
    made = engine.generate(Request(str(i), ids, stream_key(0, "", i)) for i, ids in enumerate(prompts))
    expected = {generation.problem_id: generation for generation in made}
    texts = written(TextService(model, "knorm", 32, rows=2), *(Order(ids, CAP) for ids in prompts))

    assert [text.token_ids for text in texts] == [expected[str(i)].token_ids for i in range(3)]
    assert account(texts[0])["mean_cache_tokens"] == expected["0"].mean_cache_tokens
    assert all(text.n_events for text in texts)


def test_a_text_does_not_depend_on_the_others(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """Nor on their number, their caps, their stops, or whether they came before."""
    service = TextService(model, "knorm", 32, rows=2)
    (alone,) = written(service, Order(prompts[0], CAP))
    among = written(
        service,
        Order(prompts[1], CAP, stop=("s0",)),
        Order(prompts[2], 9),
        Order(prompts[0], CAP),
        Order(prompts[1], CAP),
    )

    assert ledger(among[2]) == ledger(alone)
    assert len(among[1].token_ids) == 9


def test_a_text_ends_before_its_stop(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """And its row ends with it: nothing after it is written, or counted."""
    service = TextService(model, "knorm", 32, rows=2)
    whole, stopped, other = written(
        service,
        Order(prompts[0], CAP),
        Order(prompts[0], CAP, stop=("never", " s20", "")),
        Order(prompts[0], CAP, stop=("x",)),
    )
    n_tokens = len(stopped.token_ids)

    assert " s20" in whole.text
    assert stopped.text == whole.text.split(" s20")[0]
    assert (stopped.finish_reason, other.text) == ("stop", whole.text)
    assert stopped.token_ids == whole.token_ids[:n_tokens]
    assert " s20" in model.decode(stopped.token_ids)
    assert " s20" not in model.decode(stopped.token_ids[:-1])
    assert stopped.ledger.cache_tokens_per_step == whole.ledger.cache_tokens_per_step[: n_tokens - 1]


def test_repeats_are_other_draws(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """The same again from another service, one by one or together; another seed is others."""
    order = Order(prompts[0], 12, temperature=1.5)
    first = written(TextService(model, "knorm", 32, rows=2), order, replace(order), replace(order, seed=1))
    service = TextService(model, "knorm", 32, rows=2)
    again = [written(service, one)[0] for one in (replace(order), replace(order))]

    assert [text.token_ids for text in again] == [text.token_ids for text in first[:2]]
    assert len({text.token_ids for text in first}) == 3


def test_orders_that_come_meanwhile_join(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """While the first is written, not after it."""
    service, late = TextService(model, "knorm", 32, rows=2), Order(prompts[1], 3)
    orders = deque([Order(prompts[0], CAP), Order(prompts[0], CAP)])
    ended = []
    for order, text in service.write(orders):
        if not ended:
            orders.append(replace(late, max_new_tokens=CAP))
        ended.append((order, text))

    assert len(ended) == 3
    assert not orders


def test_a_thread_writes_what_is_awaited(model: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """In bursts with pauses between them: each text is the one that it is alone."""
    service = TextService(model, "knorm", 32, rows=2)
    alone = [ledger(text) for text in written(TextService(model, "knorm", 32, rows=2), *(Order(i, 9) for i in prompts))]
    thread = ServiceThread(service)
    for _ in range(2):
        futures = [thread.order(Order(ids, 9)) for ids in prompts]
        assert [ledger(future.result(timeout=120)) for future in futures] == alone


def test_an_error_reaches_who_awaits(
    model: LoadedModel, prompts: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next text is written as ever."""
    service = TextService(model, "knorm", 32, rows=2)
    thread = ServiceThread(service)

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(service, "_request", fail)
        future = thread.order(Order(prompts[0], 9))
        with pytest.raises(RuntimeError, match="broken"):
            future.result(timeout=120)

    assert len(thread.order(Order(prompts[0], 9)).result(timeout=120).token_ids) == 9


def test_what_cannot_be_written_is_refused_at_once(model: LoadedModel) -> None:
    """By its own numbers, before it is in anybody's way."""
    service = TextService(model, "knorm", 32, rows=2)
    for order, message in (
        (Order((), 5), "an empty one"),
        (Order((2,) * 10, 10**6), "positions, got a prompt of 10 tokens"),
    ):
        with pytest.raises(DeclarationError, match=message):
            service.check(order)
    with pytest.raises(UnknownName, match="did you mean 'knorm'"):
        TextService(model, "knorn", 32)
    with pytest.raises(DeclarationError, match="rows=0"):
        TextService(model, "knorm", 32, rows=0)
