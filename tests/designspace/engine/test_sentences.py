"""What an engine knows of a text's sentences stays right through events, refills, refreshes and rollbacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Mechanism, Needs, Request, Scoring, Selector, View
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.hook import EngineHook
from designspace.engine.prefill import Prefill
from designspace.engine.row import RowState
from designspace.errors import DeclarationError, InvariantViolation, ModelError
from designspace.memory.footprint import ArmMemory
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.sampling import Sampling
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.knorm import KNorm
from families.scoring.selectors.top_k import TopK
from tests.conftest import start, toy_model
from tests.designspace.engine.recorded_graph import NoWaiting

ENDS = (";", "run thus", "a3")
WORDS = {";", "thus", "a3"}


@dataclass(frozen=True)
class LastSentences(Scoring):
    """Prefer late sentences, and tokens with large keys within them."""

    kind: ClassVar[str] = "last-sentences"
    selector: Selector = field(default=TopK())

    def needs(self) -> Needs:
        """Return the need for sentences and keys."""
        return Needs(sentences=ENDS, keys=True)

    def score(self, view: View) -> Tensor:
        """Return the number of the sentence, and a little more."""
        number = torch.stack(
            [one.number(view.positions[:, row]) for row, one in enumerate(view.sentences)], dim=1
        ).float()
        return number + torch.sigmoid(view.keys.float().norm(dim=-1))


def arm(decoding: Any = Greedy(), scoring: Scoring = LastSentences()) -> Mechanism:  # noqa: B008 - frozen
    """Return a mechanism whose heads keep different tokens."""
    return Mechanism("sentences", scoring, Uniform(), EveryK(k=4), FullPrecision(), decoding)


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """A bundled model that writes to the end of its rows."""
    return replace(load_model(ModelSpec.bundled("pocket-llama")), eos_ids=frozenset())


def sentence_words(loaded: LoadedModel) -> set[int]:
    """Return the tokens that end a sentence, looked up word by word."""
    return {i for i in range(len(loaded.tokenizer)) if loaded.tokenizer.decode([i]) in WORDS}


def by_hand(loaded: LoadedModel, tokens: list[int], hidden: list[Tensor]) -> tuple[list[int], list[Tensor]]:
    """Return the ends of the sentences of a text, and the mean of the hidden states of each, token by token."""
    words, ends, means, begin = sentence_words(loaded), [], [], 0
    for place, token in enumerate(tokens):
        if token in words:
            ends.append(place)
            means.append(torch.stack(hidden[begin : place + 1]).mean(dim=0))
            begin = place + 1
    return ends, means


def shown(engine: Engine, row: int) -> tuple[list[int], list[Tensor]]:
    """Return the sentences that an event of a row would show."""
    observed = engine.cache.observers.rows(torch.tensor([row]))
    context = engine.compressor.context
    view = engine.cache.view(torch.tensor([row]), context, torch.tensor([4]))
    view.observed = observed.narrowed(Needs(sentences=ENDS))
    (sentences,) = view.sentences
    return sentences.ends.tolist(), list(sentences.states)


def assert_alike(found: tuple[list[int], list[Tensor]], wanted: tuple[list[int], list[Tensor]]) -> None:
    """The same ends, and the same means up to the order of additions."""
    assert found[0] == wanted[0]
    for mean, expected in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(mean, expected, atol=2e-5, rtol=1e-5)


class Seen(EngineHook):
    """Remembers what the last norm put out for each token of each row, and compares after every step and event."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.last = engine, torch.zeros(0)
        self.hidden: dict[int, list[Tensor]] = {}
        self.tokens: dict[int, list[int]] = {}
        self.n_checked = 0
        self.handle = engine.loaded.model.model.norm.register_forward_hook(self._note)

    def _note(self, module: object, arguments: object, output: Tensor) -> None:
        self.last = output

    def on_start(self, state: RowState) -> None:
        """Run the prompt alone, without padding."""
        ids = state.request.prompt_ids
        prompt, _ = Prefill(self.engine.loaded, Needs(), None, None).encode(ids)
        assert prompt.n_tokens == len(ids)
        self.hidden[state.index], self.tokens[state.index] = list(self.last[0, : len(ids)]), list(ids)

    def on_step(self, states: Collection[RowState]) -> None:
        """Note the tokens that were fed."""
        fed = self.engine.runner.next_tokens
        for state in states:
            place = int(self.engine.cache.next_position[state.index])
            self.tokens[state.index] = [*self.tokens[state.index][: place - 1], int(fed[state.index])]
            self.hidden[state.index] = [*self.hidden[state.index][: place - 1], self.last[state.index, 0]]
        self._check(states)

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Check again after events."""
        self._check(states)

    def _check(self, states: Collection[RowState]) -> None:
        for state in states:
            wanted = by_hand(self.engine.loaded, self.tokens[state.index], self.hidden[state.index])
            assert_alike(shown(self.engine, state.index), wanted)
            self.n_checked += len(wanted[0])


def requests(loaded: LoadedModel, lengths: tuple[int, ...], n_new: int = 40) -> list[Request]:
    """Return prompts of random words."""
    random = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(4, 90, (n,), generator=random).tolist()) for n in lengths]
    return [Request(str(n), ids, stream_key(0, str(n), 0), max_new_tokens=n_new) for n, ids in enumerate(prompts)]


def watched(loaded: LoadedModel, mechanism: Mechanism, lengths: tuple[int, ...], burst: int) -> Seen:
    """Run more prompts than rows under watch."""
    engine = Engine(
        loaded, mechanism, Budget(16), rows=2, max_new_tokens=40, max_prompt_tokens=max(lengths), burst=burst
    )
    engine.hook = seen = Seen(engine)
    list(engine.generate(requests(loaded, lengths)))
    seen.handle.remove()
    return seen


@pytest.mark.parametrize("burst", [1, 3])
def test_every_sentence_is_known_after_its_tokens_are_gone(pocket: LoadedModel, burst: int) -> None:
    """In more texts than rows, whose heads keep different tokens, prompts included."""
    assert watched(pocket, arm(), (5, 70, 24, 33), burst).n_checked > 300


def test_room_is_made_for_any_number_of_sentences(pocket: LoadedModel) -> None:
    """Also if a text has more of them than there is room for at first."""
    (end, *_) = sentence_words(pocket)
    mechanism = arm()
    engine = Engine(pocket, mechanism, Budget(16), rows=1, max_new_tokens=4, max_prompt_tokens=8)
    ids = (end,) * 150
    prompt, _ = engine.prefill.encode(ids[:3])
    log = engine.cache.observers.sentences
    assert log is not None and prompt.observed.sentence_ends is not None and prompt.observed.sentence_sums is not None
    log.load(torch.tensor([0]), prompt.observed.sentence_ends, prompt.observed.sentence_sums)
    ones = torch.ones(1, log.sums.shape[2])
    for place in range(3, 150):
        log.make_room(1)
        log.record(place * ones, torch.tensor([True]), torch.tensor([place]), torch.tensor([True]))
    assert log.ends[0, :150].tolist() == list(range(150))
    assert log.sums[0, 3:150, 0].tolist() == list(range(3, 150))
    assert (int(log.n), log.sums[0, 150:].any().item()) == (150, False)


def test_rows_do_not_depend_on_their_neighbours(pocket: LoadedModel) -> None:
    """A row's sums are the same to the last bit alone in its batch, and beside a text with many sentences."""
    (end, *_) = sentence_words(pocket)
    many = Request("many", (end,) * 90, stream_key(0, "many", 0), max_new_tokens=24)
    (one,) = requests(pocket, (30,), 24)
    sums = []
    for queue in ([one], [one, many], [many, one]):
        engine = Engine(pocket, arm(), Budget(16), rows=2, max_new_tokens=24, max_prompt_tokens=90, burst=1)
        seen: list[tuple[list[int], list[Tensor]]] = []
        engine.hook = Remembering(engine, seen)
        generations = {g.problem_id: g for g in engine.generate(queue)}
        sums.append((seen[-1], replace(generations["0"], wall_s=0.0)))
    for (ends, means), generation in sums[1:]:
        assert (ends, generation) == (sums[0][0][0], sums[0][1])
        assert all(torch.equal(a, b) for a, b in zip(means, sums[0][0][1], strict=True))


def test_a_step_does_not_wait_for_the_host(pocket: LoadedModel) -> None:
    """Sums and ends are added to on the device; room was made before."""
    engine = Engine(pocket, arm(), Budget(16), rows=2, max_new_tokens=8, max_prompt_tokens=24)
    engine.cache.fused = None  # the path of other devices
    with torch.inference_mode():
        for row, request in enumerate(requests(pocket, (12, 24))):
            start(engine, row, request)
        engine.cache.check_room(1)
        with NoWaiting():
            engine.runner.step(engine.in_flight.values(), engine.hook)


class Remembering(EngineHook):
    """Remembers the sentences of the request "0"."""

    def __init__(self, engine: Engine, seen: list[tuple[list[int], list[Tensor]]]) -> None:
        self.engine, self.seen = engine, seen

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Look after each step."""
        self.seen += [shown(self.engine, state.index) for state in states if state.request.problem_id == "0"]


@pytest.mark.parametrize(
    "decoding", [Refresh(every=7, decoding=Greedy()), Rollback(boundary="s", threshold=0.99, decoding=Sampling())]
)
def test_texts_that_are_steered(pocket: LoadedModel, decoding: Any) -> None:
    """What is encoded anew is summed up anew, and what is rolled back forgets the sentences since."""
    engine = Engine(pocket, arm(decoding), Budget(16), rows=2, max_new_tokens=40, max_prompt_tokens=24, burst=1)
    engine.hook = consistent = Consistent(engine)
    list(engine.generate(requests(pocket, (12, 24, 9))))
    assert consistent.n_checked > 20


class Consistent(EngineHook):
    """Checks that ends are those of the text so far, whatever has been done to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.words, self.n_checked = engine, sentence_words(engine.loaded), 0

    def on_compressed(self, states: Collection[RowState]) -> None:
        """The row's text lacks only the token that this step has chosen."""
        for state in states:
            text = (*state.request.prompt_ids, *state.tokens)
            assert len(text) == int(self.engine.cache.next_position[state.index])
            ends, means = shown(self.engine, state.index)
            assert ends == [place for place, token in enumerate(text) if token in self.words]
            assert all(bool(mean.abs().sum() > 0) for mean in means)
            self.n_checked += len(ends)


def test_bytes_are_charged_as_they_are_held(pocket: LoadedModel) -> None:
    """At each step eight for every end and four for each number of every sum, the open sentence's included."""
    hidden = pocket.model.config.hidden_size
    (one,) = requests(pocket, (20,), 24)
    means = []
    for scoring in (LastSentences(), KNorm()):
        engine = Engine(
            pocket, arm(scoring=scoring), Budget(60), rows=1, max_new_tokens=24, max_prompt_tokens=20, burst=4
        )
        (generation,) = engine.generate([one])
        means.append((generation, generation.mean_aux_bytes))
    (generation, with_sentences), (plain, without) = means
    assert generation.token_ids == plain.token_ids  # nothing was evicted, so both arms write the same
    text, words = (*one.prompt_ids, *generation.token_ids), sentence_words(pocket)
    n_complete = [sum(token in words for token in text[: 21 + step]) for step in range(generation.n_steps)]
    wanted = sum((n + 1) * 4 * hidden + 8 * n for n in n_complete) / generation.n_steps
    assert with_sentences - without == pytest.approx(wanted)


def test_memory_is_foreseen(pocket: LoadedModel) -> None:
    """What the log takes at the end of a text of usual sentences is within what is planned for it."""
    plans = [
        ArmMemory(pocket, arm(scoring=scoring), Budget(40), max_new_tokens=400, max_prompt_tokens=100).at(3)
        for scoring in (LastSentences(), KNorm())
    ]
    n_sentences = 500 // 10
    assert plans[0].total - plans[1].total >= 3 * n_sentences * 4 * pocket.model.config.hidden_size


def test_what_cannot_tell_sentences_apart_is_refused(pocket: LoadedModel) -> None:
    """A tokenizer without the texts, none at all, compiled steps, and two divisions of one text."""
    sizes: dict[str, Any] = {"rows": 1, "max_new_tokens": 4, "max_prompt_tokens": 8}

    @dataclass(frozen=True)
    class ByLines(LastSentences):
        kind: ClassVar[str] = "by-lines"

        def needs(self) -> Needs:
            return Needs(sentences=("\n",))

    with pytest.raises(ModelError, match=r"tokenizer has no tokens for '\\n'"):
        Engine(pocket, arm(scoring=ByLines()), Budget(10), **sizes)
    with pytest.raises(ModelError, match="the model has no tokenizer, so it has no tokens for ';'"):
        Engine(toy_model("llama"), arm(), Budget(10), **sizes)
    with pytest.raises(DeclarationError, match="step 'compiled' does not hand out what sentences read"):
        Engine(pocket, arm(), Budget(10), step="compiled", **sizes)
    with pytest.raises(InvariantViolation, match="sentences of one mechanism must end alike"):
        LastSentences().needs() | ByLines().needs()
