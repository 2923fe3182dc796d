"""The repetition penalty: to the bit as transformers computes it, and blind to a row's neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from designspace.axes import Action, Budget, Controller, Decoding, Generation, Mechanism, Request, TextCodec
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.repetition import penalised
from designspace.memory.footprint import ArmMemory
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from families.decoding.wrapped_decoding import Wrapping
from tests.conftest import toy_model

N_NEW = 24
PROMPTS = ((3, 5, 5, 7, 11, 2), (4, 4, 9), (8, 1, 6, 3, 13, 12, 9, 10, 2), (7, 7, 7, 1), (15, 16, 3, 4, 4))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A random Llama."""
    return toy_model()


def written(
    loaded: LoadedModel,
    decoding: Decoding,
    prompts: Sequence[Sequence[int]],
    rows: int,
    *,
    burst: int = 5,
    arm: str = "full",
) -> dict[str, Generation]:
    """Return the generations by prompt."""
    chosen: Mechanism = replace(mechanism(arm), decoding=decoding)
    engine = Engine(
        loaded, chosen, Budget(24) if chosen.budget_applies else None, rows=rows, max_new_tokens=N_NEW,
        max_prompt_tokens=10, burst=burst,
    )  # fmt: skip
    asked = [Request(str(prompt), tuple(prompt), stream_key(7, str(prompt), 0)) for prompt in prompts]
    return {found.problem_id: found for found in engine.generate(asked)}


@pytest.mark.parametrize("penalty", [1.3, 5.0, 0.7])
def test_logits_are_those_of_transformers(penalty: float) -> None:
    """Prompt tokens included, repeated ones once, signs apart; equal to the bit."""
    from transformers.generation import RepetitionPenaltyLogitsProcessor

    random = torch.Generator().manual_seed(3)
    logits = torch.randn(20, 64, generator=random) * 4
    tokens = torch.randint(0, 64, (20, 30), generator=random)
    seen = torch.zeros(20, 64, dtype=torch.bool).scatter(1, tokens, True)

    assert torch.equal(RepetitionPenaltyLogitsProcessor(penalty)(tokens, logits), penalised(logits, seen, penalty))


@pytest.mark.parametrize("penalty", [1.2, 0.8])
def test_a_greedy_text_is_that_of_transformers(loaded: LoadedModel, penalty: float) -> None:
    """`generate(repetition_penalty=…)` gives the same tokens, and other ones than without."""
    made = written(loaded, Greedy(repetition_penalty=penalty), PROMPTS, rows=2)
    hf = toy_model().model
    hf.set_attn_implementation("eager")
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        expected = hf.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=N_NEW, repetition_penalty=penalty,
            eos_token_id=sorted(loaded.eos_ids) or None, pad_token_id=0,
        )  # fmt: skip

        assert expected[0, len(prompt) :].tolist() == list(made[str(prompt)].token_ids)
    plain = written(loaded, Greedy(), PROMPTS, rows=2)
    assert any(made[name].token_ids != plain[name].token_ids for name in made)


HARD = Sampling(temperature=1.5, top_p=0.95, min_p=0.02, repetition_penalty=1.4)


@pytest.mark.parametrize("arm", ["full", "streaming-llm"])
def test_rows_know_nothing_of_their_neighbours(loaded: LoadedModel, arm: str) -> None:
    """Bit-identical in another order, at another length of bursts, and after other texts in the same row."""
    one = written(loaded, HARD, PROMPTS, rows=3, arm=arm)
    other = written(loaded, HARD, PROMPTS[::-1], rows=3, burst=1, arm=arm)

    assert {name: found.token_ids for name, found in one.items()} == {
        name: found.token_ids for name, found in other.items()
    }
    assert len({found.token_ids for found in one.values()}) == len(PROMPTS)


class _Erratic(Controller):
    """Forces two tokens after each fourth one, and returns to its checkpoint after each seventh."""

    def __init__(self) -> None:
        self.n_seen = 0

    def on_token(self, token: int, probability: float) -> Action:
        """Steer by the number of tokens alone."""
        self.n_seen += 1
        if self.n_seen % 7 == 0:
            return Action((token,), rollback=True, temperature_scale=2.0)
        if self.n_seen % 4 == 0:
            return Action((token, 96, 95))
        return Action((token,), checkpoint=self.n_seen % 7 == 1)


@dataclass(frozen=True)
class Steered(Wrapping):
    """A chooser whose text is meddled with."""

    kind: ClassVar[str] = "erratic"

    def draws(self, max_new_tokens: int) -> int:
        """Return room for what is written twice."""
        return 9 * max_new_tokens

    def controller(self, text: TextCodec) -> Controller:
        """Return the meddler."""
        return _Erratic()


def test_steered_texts_are_noted_anew(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is penalised at every step is what the row holds: nothing that was rolled back, all that was forced."""
    from designspace.engine import burst

    n_checked = 0

    class Checked(burst.Repetition):
        def begin(self, states, logits):  # type: ignore[no-untyped-def]
            nonlocal n_checked
            super().begin(states, logits)
            assert self._seen is not None
            for state in states:
                held = {*state.request.prompt_ids, *state.tokens}
                assert held == set(self._seen[state.index].nonzero()[:, 0].tolist())
                n_checked += 1

    monkeypatch.setattr(burst, "Repetition", Checked)
    made = written(loaded, Steered(decoding=HARD), PROMPTS, rows=2)
    plain = written(loaded, HARD, PROMPTS, rows=2)

    assert n_checked > 50
    assert all({95, 96} <= {*found.token_ids} for found in made.values())
    assert any(made[name].token_ids != plain[name].token_ids for name in made)


def test_the_chooser_within_another_decoding_penalises(loaded: LoadedModel) -> None:
    """A decoding around a chooser has its penalty; the greedy one without has none."""
    assert SelfConsistency(samples=2, decoding=HARD).repetition_penalty == 1.4
    assert SelfConsistency(samples=2).repetition_penalty == Greedy().repetition_penalty == 1.0


def test_the_memory_of_what_was_seen_is_predicted(loaded: LoadedModel) -> None:
    """A byte per row and token of the vocabulary, beside the copies that choosing makes."""

    def workspace(decoding: Decoding) -> int:
        chosen = replace(mechanism("full"), decoding=decoding)
        return ArmMemory(loaded, chosen, None, max_new_tokens=8, max_prompt_tokens=8).at(6).workspace

    vocabulary = loaded.model.config.vocab_size
    assert workspace(Greedy(repetition_penalty=2.0)) >= workspace(Greedy()) + 6 * vocabulary
