"""What must be true of every mechanism on every model: the real engine, checked at every step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace

import torch

from designspace.axes import Artefact, Budget, Generation, Mechanism, Needs, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.models.loading import LoadedModel
from designspace.testing.conformance.cases import artefacts_for
from designspace.testing.conformance.probes import Likeliest
from designspace.testing.conformance.verdict import expect

PROMPTS = (5, 70, 24, 44)
SHORT_PROMPTS = (5, 20, 12, 16)  # where the budget must hold a whole prompt
_ROWS = 2


class CacheChecks(EngineHook):
    """Checks an engine's cache after every prompt and every burst, which is to be of one step.

    signals: of the cadence at each step, by problem; empty where it has none.
    """

    def __init__(self, engine: Engine) -> None:
        self.mechanism, self.cache = engine.mechanism, engine.cache
        scoring = engine.mechanism.scoring
        self.sinks, self.recent = scoring.sinks, scoring.n_recent(engine.schedule.low)
        self.protects_prompt = scoring.protects_prompt
        self.signals: dict[str, list[float]] = {}
        # Could every protected token be afforded at every cut so far? False from the first one where it could not.
        self._afforded = torch.ones(self.cache.counts.shape, dtype=torch.bool)

    def on_start(self, state: RowState) -> None:
        """Check a new row."""
        self._afforded[:, state.index] = True
        self._check_row(state.index)

    def on_signals(self, states: Collection[RowState], signals: Sequence[float]) -> None:
        """Remember each row's signal."""
        for state in states:
            self.signals.setdefault(state.request.problem_id, []).append(signals[state.index])

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Check all rows."""
        for state in states:
            self._check_row(state.index)

    def _check_row(self, row: int) -> None:
        """Check one row: filled slots first and in order, free ones empty, protected tokens in their slots."""
        cache, who = self.cache, f"mechanism {self.mechanism.name!r}, row {row}"
        positions, counts = cache.positions[:, row].long().cpu(), cache.counts[:, row].long().cpu()
        filled = torch.arange(positions.shape[-1]) < counts[..., None]
        expect(
            bool(((positions >= 0) == filled).all()), f"{who}: filled slots must come first, free ones have no position"
        )
        rising = (positions.diff(dim=-1) > 0) | ~filled[..., 1:]
        expect(bool(rising.all()), f"{who}: positions must rise from slot to slot")
        length = int(cache.next_position[row])
        expect(bool((positions < length).all()), f"{who}: a position is not yet reached")
        token = torch.arange(length)
        protected = (token < self.sinks) | (token >= length - self.recent)
        present = torch.zeros(*counts.shape, length + 1, dtype=torch.bool)
        present.scatter_(-1, positions.masked_fill(~filled, length), True)
        n_protected = int(protected.sum())
        self._afforded[:, row] &= counts >= n_protected
        lost = (protected & ~present[..., :length]).any(dim=-1) & self._afforded[:, row]
        expect(not bool(lost.any()), f"{who}: a protected token is gone after {length} tokens")
        if self.protects_prompt:
            whole = present[..., : int(cache.n_prompt_tokens[row])].all()
            expect(bool(whole), f"{who}: a token of the protected prompt is gone after {length} tokens")


def check_mechanism(
    mechanism: Mechanism,
    loaded: LoadedModel,
    budget: Budget | None,
    *,
    artefacts: Mapping[str, Artefact] | None = None,
    n_new_tokens: int = 10,
) -> None:
    """Run a mechanism on a model, on a few short prompts of random tokens, with every invariant on.

    Checked: the ledger equals the cadence's simulator at every step (where no controller steers the text), or where events
    cut to no size, it grows as it may; a row is
    bit-identical whatever its batch-mates and their order; protected tokens stay; nothing is left after the run.
    artefacts: calibrations; query statistics are made up if missing.

    Raises:
        AssertionError: one of these does not hold.
    """
    if mechanism.decoding is None:
        mechanism = mechanism.override(mechanism.name, decoding=Likeliest())
    needs = mechanism.needs()
    missing = tuple(name for name in needs.calibrations if name not in (artefacts or {}))
    made = {**artefacts_for(loaded.geometry, Needs(calibrations=missing), None), **(artefacts or {})}
    engine = Engine(
        replace(loaded, eos_ids=frozenset()),  # all rows run to their end
        mechanism,
        budget,
        rows=_ROWS,
        max_new_tokens=n_new_tokens,
        max_prompt_tokens=max(prompts_for(mechanism)),
        artefacts=made,
        burst=1,
    )
    engine.hook = cache_checks = CacheChecks(engine)
    todo = _requests(loaded, prompts_for(mechanism))
    straight = _run(engine, todo)
    _check_ledger(engine, straight, cache_checks.signals)
    for order in ((3, 1, 0, 2), (1,)):
        _check_same(mechanism, straight, _run(engine, [todo[i] for i in order]), order)


def prompts_for(mechanism: Mechanism) -> tuple[int, ...]:
    """Return the lengths in tokens of the prompts that a mechanism is tried on."""
    return SHORT_PROMPTS if mechanism.scoring.protects_prompt else PROMPTS


def _requests(loaded: LoadedModel, lengths: Sequence[int]) -> list[Request]:
    n_tokens = int(loaded.model.get_input_embeddings().weight.shape[0])
    usable = torch.tensor([i for i in range(n_tokens) if i not in loaded.eos_ids])
    requests = []
    for i, length in enumerate(lengths):
        order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(100 + i))
        ids = usable[order[torch.arange(length) % len(order)]].tolist()
        requests.append(Request(f"prompt {i}", tuple(ids), stream_key(7, f"prompt {i}", 0)))
    return requests


def _run(engine: Engine, todo: list[Request]) -> dict[str, Generation]:
    """Run, check that every request comes back and that nothing is left, and return generations by problem."""
    generations = {generation.problem_id: generation for generation in engine.generate(todo)}
    cache, who = engine.cache, f"mechanism {engine.mechanism.name!r}: after the run"
    expect(len(generations) == len(todo), f"{who} {len(generations)} of {len(todo)} requests came back")
    expect(int(cache.counts.sum()) == 0 and bool((cache.positions == -1).all()), f"{who} slots are still filled")
    expect(not bool(cache.active.any() or cache.pinned.any()), f"{who} rows are still active or pinned")
    expect(not engine.in_flight, f"{who} rows are still in flight: {sorted(engine.in_flight)}")
    return generations


def _check_ledger(engine: Engine, generations: dict[str, Generation], signals: Mapping[str, list[float]]) -> None:
    if engine.decoding.controller(engine.loaded) is not None:
        return
    for name, generation in generations.items():
        if engine.mechanism.cadence.least_score is not None:
            _check_growth(engine, generation)
            continue
        expected = engine.schedule.simulate(generation.n_prompt_tokens, generation.n_steps, signals.get(name))
        seen = list(generation.cache_tokens_per_step)
        at = next((i for i, (a, b) in enumerate(zip(seen, expected, strict=True)) if a != b), None)
        if at is not None:
            raise AssertionError(
                f"mechanism {engine.mechanism.name!r}, {name}: at step {at + 1} the ledger says {seen[at]} tokens, "
                f"the cadence's simulator {expected[at]}"
            )


def _check_growth(engine: Engine, generation: Generation) -> None:
    """Check the sizes of a row that is cut to none: it grows by a token where no event comes, and by no more anywhere."""
    scoring, who = engine.mechanism.scoring, f"mechanism {engine.mechanism.name!r}, {generation.problem_id}"
    sizes, n_prompt = list(generation.cache_tokens_per_step), generation.n_prompt_tokens
    before = float(n_prompt)
    for step, size in enumerate(sizes, start=1):
        uncut = before + 1
        expect(size <= uncut + 1e-9, f"{who}: {size} tokens at step {step}, after {before}")
        if not engine.schedule.due(step - 1, int(before), 0):
            expect(abs(size - uncut) < 1e-9, f"{who}: no event before step {step}, but {size} tokens after {before}")
        least = min(n_prompt + step, scoring.n_protected(engine.schedule.low, n_prompt))
        expect(size >= least, f"{who}: {size} tokens at step {step}, of which {least} are protected")
        before = size


def _check_same(
    mechanism: Mechanism, straight: dict[str, Generation], other: dict[str, Generation], order: tuple[int, ...]
) -> None:
    for name, generation in other.items():
        for f in fields(Generation):
            a, b = getattr(straight[name], f.name), getattr(generation, f.name)
            expect(
                f.name == "wall_s" or a == b,
                f"mechanism {mechanism.name!r}, {name}: with prompts in the order {order} {f.name} differs: {a} and {b}",
            )
