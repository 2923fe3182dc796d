"""The engine's promises: batch invariance, no state between samples, a ledger that equals the arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import fields, replace

import pytest
import torch

from designspace.axes import Budget, Generation, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel
from designspace.registry import kinds, strategy
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.hysteresis import Hysteresis
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.scoring.h2o import H2O
from families.scoring.selectors.diversity import Diversity
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.triattention import TriAttention
from tests.conftest import Numbers, start, toy_gates, toy_model, toy_statistics

# The network of `learned` is trained on a model: the conformance kit runs it on a bundled one.
SCORINGS = [kind for kind in kinds("scoring") if kind not in {"full", "learned"}]
CADENCES = [EveryStep(), EveryK(k=4), Hysteresis(slack=4), PrefillOnly()]
REPRESENTATIONS = {
    "kivi": lambda: Kivi(bits=4, group=4, residual=4),
    "quest": lambda: strategy("representation", "quest")(page=4, attended=8, dense_layers=0),
}
ROWS, N_NEW = 4, 20
LENGTHS = (5, 13, 24, 18, 9, 21, 30)


def compose(scoring: object, cadence: object, **axes: object) -> Mechanism:
    """Return a mechanism from two axes, the others at their baseline."""
    baseline = {"head_routing": Uniform(), "representation": FullPrecision(), "decoding": Greedy()}
    return Mechanism("test", scoring, cadence=cadence, **(baseline | axes))  # type: ignore[arg-type]


def small(kind: str) -> object:
    """Return a scoring with protection small enough for toy budgets."""
    chosen = strategy("scoring", kind)
    if "scoring" in {
        field.name for field in fields(chosen)
    }:  # a scoring around another one protects what that one does
        return chosen(scoring=small("triattention" if kind == "variant-b" else "snapkv"), sinks=0, recent=0)
    extra = {
        "streaming-llm": {"sinks": 1}, "triattention": {"offset_max": 64}, "q-stats": {"offset_max": 64},
        "rpc": {"recent": 3, "protect": "none"}, "skip-kv": {"recent": 3, "alike": 0.0, "ends": tuple("56789")},
    }.get(kind, {"recent": 3})  # fmt: skip
    return chosen(**extra)


def budget_for(cadence: object) -> Budget:
    """A budget well below the prompts."""
    return Budget(10, "nominal") if isinstance(cadence, PrefillOnly) else Budget(12)


def requests(lengths: Sequence[int] = LENGTHS) -> list[Request]:
    """Return prompts of mixed length."""
    made = []
    for i, n in enumerate(lengths):
        ids = (torch.randperm(50, generator=torch.Generator().manual_seed(100 + i))[:n] + 2).tolist()
        made.append(Request(f"p{i}", tuple(ids), stream_key(7, f"p{i}", 0)))
    return made


def generate(
    loaded: LoadedModel, mechanism: Mechanism, budget: Budget, todo: list[Request], rows: int = ROWS, burst: int = 5
) -> dict[str, Generation]:
    """Run and index by problem."""
    engine = Engine(
        replace(loaded, tokenizer=Numbers()), mechanism, budget, rows=rows, max_new_tokens=N_NEW,
        max_prompt_tokens=max(LENGTHS), artefacts={**toy_statistics(loaded), **toy_gates(loaded)}, burst=burst,
    )  # fmt: skip
    return {g.problem_id: g for g in engine.generate(todo)}


def row(generation: Generation) -> tuple[object, ...]:
    """Everything of a generation but its wall time."""
    return (
        generation.token_ids, generation.cache_tokens_per_step, generation.n_events, generation.n_evicted,
        generation.mean_cache_bytes, generation.mean_aux_bytes, generation.finish_reason,
    )  # fmt: skip


@pytest.mark.parametrize("cadence", CADENCES, ids=lambda c: c.kind)
@pytest.mark.parametrize("kind", SCORINGS)
def test_rows_do_not_depend_on_the_batch(toy_llama: LoadedModel, kind: str, cadence: object) -> None:
    """Shuffled order, other batch-mates and refilled rows give bit-identical tokens and ledgers at fixed rows."""
    mechanism, budget, todo = (
        compose(small(kind), cadence, decoding=Sampling(temperature=1.0)),
        budget_for(cadence),
        requests(),
    )
    straight = generate(toy_llama, mechanism, budget, todo)
    shuffled = generate(toy_llama, mechanism, budget, [todo[i] for i in (4, 6, 1, 0, 5, 3, 2)])
    few = generate(toy_llama, mechanism, budget, [todo[2], todo[5]])

    assert {k: row(g) for k, g in straight.items()} == {k: row(g) for k, g in shuffled.items()}
    assert {k: row(straight[k]) for k in few} == {k: row(g) for k, g in few.items()}


@pytest.mark.parametrize("kind", ["snapkv", "h2o", "triattention"])
def test_rows_do_not_depend_on_the_batch_in_bfloat16(kind: str) -> None:
    """The same where model and cache are bfloat16, which has products and kernels of its own."""
    loaded = toy_model("llama", dtype=torch.bfloat16)
    mechanism, todo = compose(small(kind), EveryK(k=3), decoding=Sampling(temperature=1.0)), requests()
    straight, few = (generate(loaded, mechanism, Budget(12), some) for some in (todo, [todo[5], todo[2]]))

    assert loaded.dtype == torch.bfloat16
    assert {k: row(straight[k]) for k in few} == {k: row(g) for k, g in few.items()}


@pytest.mark.parametrize("cadence", CADENCES, ids=lambda c: c.kind)
def test_a_burst_moves_nothing_but_speed(toy_llama: LoadedModel, cadence: object) -> None:
    """Texts that end within a burst, at its last step, or by their length: the same as looked at step by step."""
    loaded = replace(toy_llama, eos_ids=frozenset(range(3, 9)))
    mechanism, budget = compose(small("h2o"), cadence, decoding=Sampling(temperature=1.0)), budget_for(cadence)
    watched, *others = (generate(loaded, mechanism, budget, requests(), burst=burst) for burst in (1, 2, 5, 16))
    reasons = {g.finish_reason for g in watched.values()}

    assert reasons == {"stop", "length"}
    for other in others:
        assert {k: row(g) for k, g in watched.items()} == {k: row(g) for k, g in other.items()}


@pytest.mark.parametrize("kind", kinds("representation"))
def test_bytes_in_a_burst_are_those_of_every_step(toy_llama: LoadedModel, kind: str) -> None:
    """Some stores know only during a step what it reads; what the ledger says must not depend on when the host looks."""
    representation = REPRESENTATIONS.get(kind, strategy("representation", kind))()
    unsupported_reason = representation.unsupported_reason(toy_llama.geometry)
    if unsupported_reason is not None or representation.needs().calibrations:
        pytest.skip(unsupported_reason or "needs a calibration")
    try:
        mechanism = compose(small("snapkv"), EveryK(k=4), representation=representation)
    except DeclarationError as error:
        pytest.skip(str(error))
    runs = [generate(toy_llama, mechanism, Budget(14), requests(), burst=burst) for burst in (1, 5)]
    bytes_of = [
        {k: (g.mean_cache_bytes, g.peak_cache_bytes, g.mean_read_bytes, g.mean_aux_bytes) for k, g in run.items()}
        for run in runs
    ]
    assert bytes_of[0] == bytes_of[1]


class Script:
    """Decoding that ignores the logits, but keeps them: after the prompt token 60, then 61, 62, …

    No token comes twice in a row's text, so no two keys are equal up to rounding and no ranking hangs on the last bit.
    """

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []
        self.n_steps = 0

    def choose(self, logits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Return the same next token for all rows."""
        self.logits.append(logits.clone())
        is_prompt = len(self.logits) <= self.n_prompts
        self.n_steps += not is_prompt
        return torch.full((logits.shape[0],), 60 if is_prompt else 60 + self.n_steps)

    n_prompts = 1


@pytest.mark.parametrize("kind", SCORINGS)
def test_a_batched_row_equals_a_row_alone(toy_llama: LoadedModel, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows = 1 gives the same logits up to floating-point reduction order, after several events."""
    mechanism, todo = compose(small(kind), EveryK(k=4)), requests()[:ROWS]

    def run(batch: list[Request], rows: int) -> list[torch.Tensor]:
        script = Script()
        script.n_prompts = len(batch)
        monkeypatch.setattr(Greedy, "choose", lambda self, logits, uniforms: script.choose(logits, uniforms))
        generate(toy_llama, mechanism, Budget(12), batch, rows)
        return script.logits

    together = run(todo, ROWS)
    for i, request in enumerate(todo):
        batched = torch.cat([together[i], *(step[i : i + 1] for step in together[ROWS:])])
        assert (torch.cat(run([request], 1)) - batched).abs().max() < 2e-5


def test_no_state_leaks_between_samples(toy_llama: LoadedModel) -> None:
    """The same problem first, last, after another, and in a used engine gives the same row."""
    mechanism, todo = compose(H2O(recent=3), EveryStep()), requests()
    engine = Engine(toy_llama, mechanism, Budget(12), rows=1, max_new_tokens=N_NEW, max_prompt_tokens=max(LENGTHS))
    runs = [
        {g.problem_id: row(g) for g in engine.generate(order)}["p2"]
        for order in ([todo[2]], [todo[2], todo[0]], [todo[0], todo[6], todo[2]])
    ]

    assert runs[0] == runs[1] == runs[2]


def test_an_abandoned_run_leaves_no_row_behind(toy_llama: LoadedModel) -> None:
    """Stopping in the middle frees all rows, so the next run starts clean."""
    engine = Engine(
        toy_llama, compose(H2O(recent=3), EveryStep()), Budget(12), rows=2, max_new_tokens=N_NEW, max_prompt_tokens=30
    )
    running = engine.generate(requests())
    next(running)
    running.close()

    assert int(engine.cache.counts.sum()) == 0
    assert bool((engine.cache.positions == -1).all())


@pytest.mark.parametrize(
    ("cadence", "budget"),
    [
        (EveryStep(), Budget(12)), (EveryStep(prefill=False), Budget(12)), (EveryK(k=4), Budget(12)), (EveryK(k=3), Budget(12)),
        (EveryK(k=5, prefill=False), Budget(9, "nominal")), (Hysteresis(slack=4), Budget(12)),
        (Hysteresis(slack=6), Budget(14, "peak")),
        (PrefillOnly(), Budget(10, "nominal")),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("routing", [Uniform(), Pyramid(beta=4.0), AdaKV(floor=0.3)], ids=lambda r: r.kind)
def test_ledger_equals_the_integer_simulator(
    toy_llama: LoadedModel, cadence: object, budget: Budget, routing: object
) -> None:
    """Attended sizes at every step, for every cadence and routing, are exactly those of plain integer arithmetic."""
    mechanism = compose(SnapKV(recent=2, kernel=3), cadence, head_routing=routing)
    for generation in generate(toy_llama, mechanism, budget, requests()).values():
        expected = mechanism.bind(budget).simulate(generation.n_prompt_tokens, generation.n_steps)

        assert list(generation.cache_tokens_per_step) == [float(m) for m in expected]
        assert generation.peak_cache_tokens <= mechanism.bind(budget).peak_bound(generation.n_prompt_tokens, N_NEW)


@pytest.mark.parametrize(
    "representation", [FullPrecision(), Kivi(bits=2, group=8, residual=8), Kivi(bits=4, group=4, residual=4)], ids=str
)
def test_ledger_bytes_equal_what_the_tensors_hold(toy_llama: LoadedModel, representation: object) -> None:
    """The bytes of a row's tokens are those of the filled parts of the store's tensors, counted here slot by slot."""
    mechanism = compose(StreamingLLM(sinks=1), EveryK(k=4), representation=representation)
    engine = Engine(toy_llama, mechanism, Budget(14), rows=1, max_new_tokens=N_NEW, max_prompt_tokens=30)
    per_step: list[int] = []

    class Counting(EngineHook):
        """Counts bytes at every step."""

        def on_step(self, states: Collection[RowState]) -> None:
            """Count."""
            per_step.append(count_bytes(engine, representation))

    engine.hook = Counting()
    generation = next(iter(engine.generate(requests([24]))))

    assert len(per_step) == generation.n_steps
    assert generation.mean_cache_bytes == pytest.approx(sum(per_step) / len(per_step), abs=1e-9)
    assert generation.peak_cache_bytes == max(per_step)


def count_bytes(engine: Engine, representation: object) -> int:
    """Count filled bytes head by head from the tensors themselves."""
    total, store = 0, engine.cache.store
    for layer, head in itertools.product(*(range(n) for n in engine.cache.counts[:, 0].shape)):
        n = int(engine.cache.counts[layer, 0, head])
        if isinstance(representation, Kivi):
            coded_keys, coded_values = n - n % representation.residual, max(n - representation.residual, 0)
            groups = coded_keys // representation.group
            parts = [
                store.key_codes[layer, 0, head, :coded_keys], store.value_codes[layer, 0, head, :coded_values],
                store.key_scale[layer, 0, head, :groups], store.key_minimum[layer, 0, head, :groups],
                store.value_scale[layer, 0, head, :coded_values], store.value_minimum[layer, 0, head, :coded_values],
                store.recent_keys[layer, 0, head, : n - coded_keys], store.recent_values[layer, 0, head, : n - coded_values],
            ]  # fmt: skip
        else:
            parts = [store.keys[layer, 0, head, :n], store.values[layer, 0, head, :n]]
        total += sum(part.nbytes for part in parts)
    return total


def test_slot_order_is_irrelevant(toy_llama: LoadedModel) -> None:
    """Permuting a row's slots changes no logit beyond rounding: masks come from positions."""
    mechanism = compose(StreamingLLM(sinks=1), EveryK(k=4))
    outcomes = []
    for permute in (False, True):
        engine = Engine(toy_llama, mechanism, Budget(14), rows=1, max_new_tokens=N_NEW, max_prompt_tokens=30)
        with torch.inference_mode():
            start(engine, 0, requests([24])[0])
            cache = engine.cache
            if permute:
                n = int(cache.counts[0, 0, 0])
                order = torch.cat(
                    [torch.randperm(n, generator=torch.Generator().manual_seed(0)), torch.arange(n, engine.capacity)]
                )
                for tensor in (cache.store.keys, cache.store.values, cache.positions):
                    tensor.copy_(tensor[:, :, :, order])
            outcomes.append(engine.runner.forward(engine.runner.next_tokens))

    assert (outcomes[0] - outcomes[1]).abs().max() < 1e-5


def test_surviving_keys_are_bit_equal_to_the_originals(toy_llama: LoadedModel) -> None:
    """Eviction moves keys and values, it never changes them."""
    full = Engine(
        toy_llama,
        compose(StreamingLLM(sinks=2), EveryStep()),
        Budget(100),
        rows=1,
        max_new_tokens=N_NEW,
        max_prompt_tokens=30,
    )
    cut = Engine(
        toy_llama,
        compose(StreamingLLM(sinks=2), EveryStep()),
        Budget(12),
        rows=1,
        max_new_tokens=N_NEW,
        max_prompt_tokens=30,
    )
    with torch.inference_mode():
        for engine in (full, cut):
            start(engine, 0, requests([24])[0])
    n = int(cut.cache.counts[0, 0, 0])
    where = cut.cache.positions[:, 0, :, :n].long()[..., None].expand(-1, -1, -1, 16)

    assert n == 11
    assert torch.equal(cut.cache.store.keys[:, 0, :, :n], full.cache.store.keys[:, 0].gather(2, where))
    assert torch.equal(cut.cache.store.values[:, 0, :, :n], full.cache.store.values[:, 0].gather(2, where))


def test_weight_zero_is_bit_identical_to_the_baseline(toy_llama: LoadedModel) -> None:
    """α at weight 0 gives TriAttention's tokens and ledger."""
    plain, alpha = (
        compose(TriAttention(selector=s), EveryK(k=4)) for s in (Diversity(weight=0.0), TriAttention().selector)
    )
    runs = [generate(toy_llama, mechanism, Budget(12), requests()) for mechanism in (plain, alpha)]

    assert {k: row(g) for k, g in runs[0].items()} == {k: row(g) for k, g in runs[1].items()}


def test_a_budget_that_covers_everything_changes_nothing(toy_llama: LoadedModel) -> None:
    """With room for the whole text, every scoring gives the full cache's tokens and no event."""
    full = generate(
        toy_llama, compose(strategy("scoring", "full")(), strategy("cadence", "never")()), Budget(1), requests()
    )  # type: ignore[arg-type]
    for kind in SCORINGS:
        roomy = generate(toy_llama, compose(small(kind), EveryStep()), Budget(80), requests())
        assert {k: g.token_ids for k, g in roomy.items()} == {k: g.token_ids for k, g in full.items()}
        assert {g.n_events for g in roomy.values()} == {0}


def test_sinks_survive_many_steps(toy_llama: LoadedModel) -> None:
    """After 300 steps of every-step eviction the sinks are still there, and positions are sorted."""
    engine = Engine(
        toy_llama,
        compose(StreamingLLM(sinks=4), EveryStep()),
        Budget(12),
        rows=1,
        max_new_tokens=300,
        max_prompt_tokens=30,
    )
    at_steps: list[list[int]] = []

    class Remembering(EngineHook):
        """Remembers one head's positions after every cut."""

        def on_compressed(self, states: Collection[RowState]) -> None:
            """Remember."""
            at_steps.append(engine.cache.positions[0, 0, 0, :11].tolist())

    engine.hook = Remembering()
    generation = next(iter(engine.generate(requests([24]))))

    newest = generation.n_prompt_tokens + generation.n_steps - 1
    assert at_steps[-1] == [0, 1, 2, 3, *range(newest - 6, newest + 1)]


def test_an_overfull_row_is_refused(toy_llama: LoadedModel) -> None:
    """A cache too small for its cadence raises instead of overwriting."""
    engine = Engine(
        toy_llama,
        compose(StreamingLLM(sinks=1), EveryK(k=8)),
        Budget(14),
        rows=1,
        max_new_tokens=N_NEW,
        max_prompt_tokens=30,
        capacity=12,
    )

    with pytest.raises(InvariantViolation, match="do not fit into 12 slots"):
        list(engine.generate(requests([24])))


def test_protection_must_leave_room(toy_llama: LoadedModel) -> None:
    """A window that fills the whole budget is refused at declaration."""
    with pytest.raises(
        DeclarationError, match=r"sinks \+ recent must be smaller than the after-event size, got sinks=0, recent=8"
    ):
        compose(SnapKV(), EveryStep()).bind(Budget(9))


@pytest.mark.parametrize(
    "axes",
    [
        {"head_routing": Pyramid(beta=4.0)},
        {"head_routing": AdaKV(floor=0.3)},
        {"representation": Kivi(bits=4, group=4, residual=4)},
        {"head_routing": AdaKV(), "representation": Kivi(bits=2, group=8, residual=8)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["h2o", "snapkv", "triattention"])
def test_rows_do_not_depend_on_the_batch_with_ragged_heads_and_codes(
    toy_llama: LoadedModel, kind: str, axes: dict[str, object]
) -> None:
    """The same promise over head routings and quantised slots."""
    mechanism, todo = compose(small(kind), EveryK(k=4), **axes), requests()
    straight = generate(toy_llama, mechanism, Budget(12), todo)
    mixed = generate(toy_llama, mechanism, Budget(12), [todo[i] for i in (6, 2, 5)])

    assert {k: row(straight[k]) for k in mixed} == {k: row(g) for k, g in mixed.items()}


def test_the_compressed_text_differs_from_the_full_one(toy_llama: LoadedModel) -> None:
    """A budget that bites changes generations: no silent fallback to the whole cache."""
    full = generate(
        toy_llama, compose(strategy("scoring", "full")(), strategy("cadence", "never")()), Budget(1), requests()
    )  # type: ignore[arg-type]
    for kind in SCORINGS:
        cut = generate(toy_llama, compose(small(kind), EveryStep()), Budget(12), requests())
        assert any(g.token_ids != full[k].token_ids for k, g in cut.items()), kind
        assert all(g.n_events > 0 for g in cut.values())


def test_a_request_may_have_a_cap_of_its_own(toy_llama: LoadedModel) -> None:
    """The smaller of both caps holds, and the text is the longer one's beginning."""
    todo = requests()
    short = [Request(r.problem_id, r.prompt_ids, r.stream, max_new_tokens=3 + i) for i, r in enumerate(todo)]
    mechanism = compose(H2O(recent=3), EveryK(k=4))
    long_runs, short_runs = (generate(toy_llama, mechanism, Budget(12), x) for x in (todo, short))

    assert [short_runs[r.problem_id].n_new_tokens for r in todo] == [3 + i for i in range(len(todo))]
    assert all(g.token_ids == long_runs[k].token_ids[: g.n_new_tokens] for k, g in short_runs.items())
