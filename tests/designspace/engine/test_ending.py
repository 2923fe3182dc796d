"""Stop strings and a least length, against the decoding of every prefix, and against transformers."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import Budget, Decoding, Generation, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.ending import Ending
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.decoding.budget_forcing import BudgetForcing
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.sampling import Sampling
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

N_NEW, ROWS = 48, 3
# Tokens of one to three bytes: letters that begin in one token and end in the next, tokens without a letter (id 0, special),
# tokens with more letters than one.
PIECES = [
    b"",
    *(bytes([byte]) for byte in b"ab\n"),
    b"ab",
    b"ba",
    b"a\n\n",
    b"\xc3",
    b"\xa9",
    b"\xe2\x82",
    b"\xac",
    b"b\xc3",
]


class Bytes:
    """A tokenizer whose tokens are pieces of UTF-8, as those of byte-level models are."""

    def decode(self, ids: list[int], **_: object) -> str:
        """Return the text of tokens."""
        return b"".join(PIECES[i % len(PIECES)] for i in ids).decode("utf-8", errors="replace")

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """Return the tokens of a text of single letters."""
        return {"input_ids": [PIECES.index(letter.encode()) for letter in text]}

    unk_token_id = None


def reference_end(ids: tuple[int, ...], stop: tuple[str, ...], least: int) -> int | None:
    """Return the length of the first prefix whose text has a stop string that begins after the least length."""
    decode = Bytes().decode
    for n in range(least + 1, len(ids) + 1):
        begin = len(decode(list(ids[:least])))
        if any(one in decode(list(ids[:n]))[begin:] for one in stop):
            return n
    return None


@settings(max_examples=200)
@given(
    ids=st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=60).map(tuple),
    stop=st.lists(st.text("ab\né€", min_size=1, max_size=5), min_size=1, max_size=3, unique=True).map(tuple),
    least=st.integers(0, 12),
    burst=st.integers(1, 16),
)
def test_the_end_is_that_of_the_first_prefix(
    ids: tuple[int, ...], stop: tuple[str, ...], least: int, burst: int
) -> None:
    """Whatever the bursts: over several tokens, within one, over tokens without letters, with letters in two halves."""
    ending, decode = Ending(stop, least), lambda tokens: Bytes().decode(list(tokens))
    found = None
    for begin in range(0, len(ids), burst):
        new = ids[begin : begin + burst]
        n = ending.n_until_stop(decode, ids[: begin + len(new)], len(new))
        if n is not None:
            found = begin + n
            break

    assert reference_end(ids, stop, least) == found
    text = decode(ids[:found])
    cut = ending.text(decode, ids[:found])
    assert text.startswith(cut)
    assert (found is None) == (cut == text)
    assert found is None or any(text[len(cut) :].startswith(one) for one in stop)


def test_a_stop_string_over_a_thousand_empty_tokens_is_found() -> None:
    """How far back a text must be decoded follows from its letters, not from a number of tokens."""
    ids = (1, *([0] * 1000), 2)

    assert 1 == Ending(("ab",)).n_until_stop(lambda tokens: Bytes().decode(list(tokens)), ids, 1)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A toy model that writes pieces of UTF-8."""
    return replace(toy_model("llama"), tokenizer=Bytes())


def run(loaded: LoadedModel, decoding: Decoding, n: int = 7, **options: object) -> dict[str, Generation]:
    """Return the generations of some prompts under a small budget, by problem."""
    mechanism = Mechanism("m", StreamingLLM(), Uniform(), EveryK(k=4), FullPrecision(), decoding)
    asked = [
        Request(str(i), tuple((7 * i + j) % 90 + 2 for j in range(5 + 3 * i)), stream_key(0, str(i), 0))
        for i in range(n)
    ]
    engine = Engine(
        loaded, mechanism, Budget(16), rows=ROWS, max_new_tokens=N_NEW, max_prompt_tokens=40, capacity=64, **options
    )  # type: ignore[arg-type]
    return {made.problem_id: made for made in engine.generate(asked)}


@pytest.mark.parametrize(
    "decoding", [Greedy(), Sampling(), Refresh(every=5, decoding=Sampling())], ids=lambda decoding: decoding.kind
)
@pytest.mark.parametrize("burst", [1, 16])
def test_rows_are_those_of_the_whole_text_up_to_the_stop(loaded: LoadedModel, decoding: Decoding, burst: int) -> None:
    """Tokens, steps and cache alike: what a burst does beyond the stop, and what its mates do, is in no row."""
    ending = Ending(("ab\n", "é", "aa"), 2)
    whole, ended = run(loaded, decoding), run(loaded, decoding, ending=ending, burst=burst)

    ends = {name: reference_end(made.token_ids, ending.stop, 2) for name, made in whole.items()}
    assert 3 <= sum(end is not None and end < N_NEW for end in ends.values())
    for name, made in ended.items():
        n = ends[name] or N_NEW
        assert whole[name].token_ids[:n] == made.token_ids
        assert ("stop" if ends[name] else "length") == made.finish_reason
        assert whole[name].cache_tokens_per_step[: n - 1] == made.cache_tokens_per_step
        assert n - 1 == made.n_steps
        assert sum(made.cache_tokens_per_step) / max(n - 1, 1) == pytest.approx(made.mean_cache_tokens)


def test_what_a_controller_writes_counts_too(loaded: LoadedModel) -> None:
    """The words that are forced upon a text may complete a stop string."""
    forcing = BudgetForcing(waits=0, max_thinking=6, tag="ba", answer_cue="aab", decoding=Greedy())
    made = run(loaded, forcing, ending=Ending(("aaa",)))

    forced = [m for m in made.values() if len(m.token_ids) >= 8]
    assert forced
    for one in forced:
        assert one.finish_reason == "stop"
        assert reference_end(one.token_ids, ("aaa",), 0) == len(one.token_ids)


def test_least_length_is_that_of_transformers(loaded: LoadedModel) -> None:
    """Greedy, with a token as the end of text that the model likes: the same tokens as `generate(min_new_tokens=…)`."""
    prompt = tuple(range(5, 15))
    plain = copy.deepcopy(loaded.model)
    plain.set_attn_implementation("sdpa")
    mechanism = Mechanism("m", StreamingLLM(), Uniform(), EveryK(k=4), FullPrecision(), Greedy())

    def ours(eos: int, least: int) -> Generation:
        engine = Engine(
            replace(loaded, eos_ids=frozenset({eos})), mechanism, Budget(64), rows=2, max_new_tokens=20,
            max_prompt_tokens=10, ending=Ending(min_new_tokens=least),
        )  # fmt: skip
        return next(engine.generate([Request("a", prompt, b"a" * 16)]))

    (early,) = {ours(96, 0).token_ids[2]}
    for least in (0, 1, 2, 3, 4, 9, 20):
        with torch.no_grad():
            ids = plain.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=20, min_new_tokens=least, eos_token_id=early,
                pad_token_id=0,
            )  # fmt: skip
        made = ours(early, least)
        assert tuple(ids[0, len(prompt) :].tolist()) == made.token_ids
        assert early not in made.token_ids[:least]


def test_least_length_holds_for_drawn_tokens(loaded: LoadedModel) -> None:
    """Every row for itself: rows in one batch begin at different times."""
    eos = frozenset(range(40, 97))
    made = run(replace(loaded, eos_ids=eos), Sampling(temperature=2.0, top_p=1.0), ending=Ending(min_new_tokens=5))

    assert all(not eos & set(one.token_ids[:5]) for one in made.values())
    assert all(eos & set(one.token_ids[5:7]) for one in made.values() if one.n_new_tokens <= 7)
    assert any(one.n_new_tokens < 12 for one in made.values())
