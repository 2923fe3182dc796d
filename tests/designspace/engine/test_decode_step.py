"""The compiled decode step: the plain step's logits, the same promises, one compilation; and no step waits for the host."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from designspace.axes import Budget, Generation, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.decode_step import has_compiler
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.representation.kivi import Kivi
from tests.conftest import MODEL_FAMILIES, start, toy_model
from tests.designspace.engine.recorded_graph import NoWaiting

ROWS, N_NEW, PROMPTS = 4, 24, (5, 13, 24, 18, 9, 21, 30)
ARMS = {
    "full": None, "h2o": Budget(14), "snapkv": Budget(14), "ada-kv": Budget(14), "kivi": None, "streaming-llm": Budget(14),
}  # fmt: skip


def requests() -> list[Request]:
    """Prompts of mixed lengths."""
    random = torch.Generator().manual_seed(3)
    return [
        Request(f"p{i}", tuple(torch.randint(2, 97, (n,), generator=random).tolist()), stream_key(7, f"p{i}", 0))
        for i, n in enumerate(PROMPTS)
    ]


def arm(name: str) -> Mechanism:
    """A catalogue entry small enough for toy texts, sampled."""
    found = mechanism(name)
    axes: dict[str, object] = {"decoding": Sampling(temperature=1.0)}
    if name == "kivi":
        axes["representation"] = Kivi(bits=4, group=4, residual=4)
    if found.budget_applies:
        scoring = replace(found.scoring, recent=3, sinks=0)
        axes |= {
            "cadence": EveryK(k=4),
            "scoring": replace(scoring, window=3) if hasattr(scoring, "window") else scoring,
        }
    return found.override(name, **axes)


def run(
    loaded: LoadedModel, made: Mechanism, budget: Budget | None, todo: list[Request], step: str
) -> dict[str, Generation]:
    """Run and index by problem."""
    engine = Engine(
        loaded, made, budget, rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=max(PROMPTS), step=step, burst=3,
    )  # type: ignore[arg-type]  # fmt: skip
    return {g.problem_id: g for g in engine.generate(todo)}


def row(generation: Generation) -> tuple[object, ...]:
    """Everything of a generation but its wall time."""
    return (generation.token_ids, generation.cache_tokens_per_step, generation.n_events, generation.mean_cache_bytes)


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler on this machine")


@needs_compiler
@pytest.mark.parametrize("family", MODEL_FAMILIES)
def test_logits_equal_the_plain_step(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 1e-5, step after step, with a sliding window where the family has one."""
    loaded = toy_model(family, **({"sliding_window": 16} if family in ("mistral", "phi3") else {}))
    seen: dict[str, list[torch.Tensor]] = {}
    for step in ("plain", "compiled"):
        record = seen.setdefault(step, [])
        monkeypatch.setattr(
            Greedy,
            "choose",
            lambda self, logits, uniforms, to=record: (to.append(logits.clone()), logits.argmax(-1))[1],
        )
        run(loaded, mechanism("full").override("full", decoding=Greedy()), None, requests()[:ROWS], step)

    assert len(seen["plain"]) == len(seen["compiled"]) == ROWS + N_NEW - 1
    assert max(float((a - b).abs().max()) for a, b in zip(*seen.values(), strict=True)) < 1e-5


@needs_compiler
def test_rows_do_not_depend_on_the_batch_and_one_graph_serves_all_arms() -> None:
    """Shuffled, with other mates and refilled rows: equal to the bit; nothing is compiled after the first step."""
    loaded, n_graphs = toy_model("llama"), None
    for name, budget in ARMS.items():
        todo = requests()
        straight = run(loaded, arm(name), budget, todo, "compiled")
        n_graphs = n_graphs or torch._dynamo.utils.counters["stats"]["unique_graphs"]
        shuffled = run(loaded, arm(name), budget, [todo[i] for i in (4, 6, 1, 0, 5, 3, 2)], "compiled")
        few = run(loaded, arm(name), budget, [todo[2], todo[5]], "compiled")

        assert {k: row(g) for k, g in straight.items()} == {k: row(g) for k, g in shuffled.items()}, name
        assert {k: row(straight[k]) for k in few} == {k: row(g) for k, g in few.items()}, name
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == n_graphs, name
    assert n_graphs


@needs_compiler
def test_two_models_of_one_shape_have_their_own_graphs() -> None:
    """Nothing guards a graph, so the second model must not be given the first one's."""
    tokens = [
        [
            run(toy_model("llama", seed=seed), arm("full"), None, requests()[:ROWS], step)[f"p{i}"].token_ids
            for i in range(ROWS)
        ]
        for seed in (0, 1)
        for step in ("plain", "compiled")
    ]
    assert tokens[0] == tokens[1]
    assert tokens[2] == tokens[3]
    assert tokens[0] != tokens[2]


@pytest.mark.parametrize("name", ARMS)
def test_a_step_does_not_wait_for_the_host(name: str, toy_llama: LoadedModel) -> None:
    """Feeding, attending, observing, accounting and choosing are all left to the device."""
    engine = Engine(toy_llama, arm(name), ARMS[name], rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=max(PROMPTS))
    engine.cache.fused = None  # the path of other devices
    with torch.inference_mode():
        for at, request in enumerate(requests()[:ROWS]):
            start(engine, at, request)
        states = engine.in_flight.values()
        uniforms = engine.runner.uniforms(states, 1)
        with NoWaiting():
            logits = engine.runner.step(states, engine.hook)
            engine.decoding.choose(logits, uniforms[0])


def test_without_a_compiler_the_compiled_step_is_refused(
    toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, before the first prompt."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeclarationError, match=r"needs a C\+\+ compiler"):
        run(toy_llama, arm("full"), None, [], "compiled")


@needs_compiler
def test_unknown_steps_and_other_shapes_are_refused(toy_llama: LoadedModel) -> None:
    """A graph without guards must never see another shape."""
    with pytest.raises(DeclarationError, match="step must be one of plain, compiled, got step='jit'"):
        run(toy_llama, arm("full"), None, [], "jit")
    engine = Engine(toy_llama, arm("full"), None, rows=ROWS, max_new_tokens=4, max_prompt_tokens=8, step="compiled")
    with pytest.raises(InvariantViolation, match="compiled for 4 rows, got 5"):
        engine.runner.forward(torch.zeros(5, dtype=torch.long))
