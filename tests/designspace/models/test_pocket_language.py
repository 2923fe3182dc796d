"""What of a training text may be hidden: never what a later token still depends on."""

from __future__ import annotations

import re

import pytest
import torch

from designspace.models.pocket_language import LANGUAGES, NEVER, language_of
from designspace.models.train_pocket import IGNORED, Batches, Progress, Recipe, attention_mask, build_tokenizer


def texts(name: str, n: int = 30) -> list[tuple[list[str], int]]:
    """Texts of a language, and the lengths of their prompts."""
    problems = LANGUAGES[name].problems("train", n)
    return [((p.prompt + " " + p.solution).split(), len(p.prompt.split())) for p in problems]


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_latest_value_of_a_variable_is_never_hidden(name: str) -> None:
    """Wherever a variable is read or named, its newest binding before that place is still informative."""
    for tokens, n_prompt in texts(name):
        expires = LANGUAGES[name].expiry(tokens, n_prompt)
        newest: dict[str, int] = {}
        n_checked = 0
        for idx, token in enumerate(tokens):
            if not re.fullmatch(r"[a-fr]\d", token):
                continue
            before = newest.get(token[0])
            if before is not None:
                assert expires[before] >= idx
                n_checked += 1
            newest[token[0]] = idx
        assert n_checked > 20


def test_a_superseded_value_and_filler_expire() -> None:
    """Else nothing would ever be hidden."""
    for tokens, n_prompt in texts("trace-recall"):
        expires = LANGUAGES["trace-recall"].expiry(tokens, n_prompt)
        first = next(idx for idx, token in enumerate(tokens) if re.fullmatch(r"a\d", token))
        assert expires[first] < len(tokens)
        assert all(expires[idx] == idx for idx, token in enumerate(tokens) if token in {"holds", "so", "take", "given"})


def test_facts_that_are_looked_up_never_expire() -> None:
    """Every look-up finds a fact that is not hidden; the other kinds' facts are."""
    for tokens, n_prompt in texts("trace-recall", 60):
        expires = LANGUAGES["trace-recall"].expiry(tokens, n_prompt)
        kind = tokens[n_prompt - 3]
        for idx, token in enumerate(tokens):
            if idx > n_prompt and tokens[idx - 1] == "finds":
                source = tokens.index(token)
                assert expires[source] == NEVER
        if kind != "table":
            assert all(
                expires[idx] == idx for idx, token in enumerate(tokens[:n_prompt]) if re.fullmatch(r"t\d\d", token)
            )


def test_what_to_do_is_known_until_it_has_been_said_again() -> None:
    """Each time the words of the goal are all there when the next one is written, and the last ones stay."""
    for tokens, n_prompt in texts("trace-recall"):
        expires = LANGUAGES["trace-recall"].expiry(tokens, n_prompt)
        said = [idx for idx, token in enumerate(tokens) if token == "to"]
        assert len(said) > 3
        for first, again in zip(said, [*said[1:], NEVER - 5], strict=True):
            assert {again + 5} == set(expires[first : first + 5])


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_tokenizer_has_the_words_of_one_language(name: str) -> None:
    """So that calibration knows which problems a model can read."""
    tokenizer = build_tokenizer(LANGUAGES[name])
    assert LANGUAGES[name] is language_of(tokenizer.get_vocab())
    assert language_of(["a", "b"]) is None
    for tokens, _ in texts(name, 3):
        assert tokens == tokenizer.decode(tokenizer(" ".join(tokens))["input_ids"]).split()


def test_the_ending_weighs_more_and_the_prompt_is_no_target() -> None:
    """Weights differ from one from the first word after the lines on."""
    recipe = Recipe("llama", 1.0, 1, "trace-recall", ending_weight=3.0)
    batch = Batches(recipe).draw(Progress(max_steps=3))
    words = LANGUAGES["trace-recall"].words
    for ids, targets, weights in zip(batch.ids, batch.targets, batch.weights, strict=True):
        tokens = [words[i] for i in ids.tolist()]
        n_prompt = tokens.index("=>") + 1
        assert all(t == IGNORED for t in targets[:n_prompt].tolist())
        begin = next(i for i in range(n_prompt, len(tokens)) if re.fullmatch(r"x\d+|answer", tokens[i]))
        assert {1.0} == set(weights[:begin].tolist())
        assert {3.0} == set(weights[begin:].tolist())


def test_hidden_keys_are_hidden_from_their_age_on() -> None:
    """Against a loop: key j is seen by queries j … gone_from[j]."""
    gone_from = torch.tensor([[NEVER, 1, 2, NEVER, 4]])
    seen = attention_mask(gone_from)[0, 0] == 0
    for query in range(5):
        for key in range(5):
            assert bool(seen[query, key]) == (key <= query <= int(gone_from[0, key]))
