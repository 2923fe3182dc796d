"""Texts in one call: those of an engine and of a sweep, whatever form the arguments have."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import designspace
from cluster.run import run_sweep
from designspace.axes import Budget, Generation
from designspace.errors import DeclarationError, DesignspaceError, UnknownName
from designspace.memory.batch_rows import SHARE
from designspace.memory.footprint import ArmMemory
from designspace.models.loading import LoadedModel
from designspace.program.generate import generate
from designspace.program.generated_text import BudgetIgnored, NothingCompressed
from designspace.program.load import load
from designspace.program.prompt_arguments import encoded
from designspace.registry import mechanism
from designspace.store import ResultsStore
from designspace.tasks.task_spec import TaskSpec
from families.decoding.greedy import Greedy
from sweeps.spec import parse_sweep

SWEEP = """
schema: 1
study: same
models: [pocket-llama]
tasks: [{name: chain-arithmetic, split: dev, problems: 4}]
budgets: [32]
mechanisms: [streaming-llm, {name: mine, scoring: snapkv, head_routing: ada-kv, cadence: {kind: every-k, k: 4}}]
seeds: {count: 1, root: 7}
generation: {temperature: 0.0, max_new_tokens: 48, rows: 4}
"""
MINE = {"scoring": {"kind": "snapkv", "recent": 8}, "head_routing": "ada-kv", "cadence": {"kind": "every-k", "k": 4}}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """The smallest model that ships."""
    return load("pocket-llama")


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Four problems."""
    return [problem.prompt for problem in TaskSpec("chain-arithmetic", "dev", problems=4).load()]


def test_a_sweep_stores_the_same(model: LoadedModel, prompts: list[str], tmp_path: Path) -> None:
    """Text by text and number by number, for a system and for a mapping."""
    sweep = parse_sweep(SWEEP.replace("scoring: snapkv,", "scoring: {kind: snapkv, recent: 8},"))
    run_sweep(sweep, tmp_path / "r", executor="inline", progress="none")
    stored = ResultsStore.open(tmp_path / "r").samples().to_table().to_pylist()
    by_arm = {
        "streaming-llm": generate(model, prompts, "streaming-llm", 32, max_new_tokens=48, rows=4),
        "mine": generate(model, prompts, MINE, 32, max_new_tokens=48, rows=4),
    }
    names = [problem.problem_id for problem in TaskSpec("chain-arithmetic", "dev", problems=4).load()]

    assert len(stored) == 8
    for row in stored:
        text = by_arm[row["mechanism"]][names.index(row["problem_id"])]
        assert (row["text"], row["token_ids"]) == (text.text, list(text.token_ids))
        assert (row["n_events"], row["mean_cache_tokens"]) == (text.n_events, text.mean_cache_tokens)
    assert all(text.n_events for texts in by_arm.values() for text in texts)


def test_the_arguments_may_have_any_usual_form(model: LoadedModel, prompts: list[str]) -> None:
    """A name, a mechanism; a number, a budget, a mapping; a text, its tokens in a list, an array or a tensor."""
    ids = model.encode(prompts[0])
    expected = generate(model, prompts[0], "knorm", 32, max_new_tokens=12)

    assert expected.token_ids
    for prompt in (ids, list(ids), np.array(ids), torch.tensor(ids)):
        assert same(generate(model, prompt, "knorm", 32, max_new_tokens=12), expected)
    for budget in (Budget(32), {"tokens": 32}, {"tokens": 32, "of": "mean"}):
        assert same(generate(model, prompts[0], mechanism("knorm"), budget, max_new_tokens=12), expected)
    assert same(generate(model, [prompts[0]], "knorm", 32, max_new_tokens=12)[0], expected)
    assert generate(model, prompts[0], "knorm", {"prompt": 8, "trace": 24}, max_new_tokens=12).budget == Budget(
        32, prompt=8
    )
    assert generate(model, [], "knorm", 32) == []


def same(one: Any, other: Any) -> bool:
    """Return whether two texts agree in all but the time that they took."""
    return ledger(one.ledger) == ledger(other.ledger) and one.text == other.text and one.budget == other.budget


def ledger(generation: Generation) -> Generation:
    """Return an account without its clock."""
    return replace(generation, wall_s=0.0)


def test_draws_follow_from_the_prompt_and_the_seed(model: LoadedModel, prompts: list[str]) -> None:
    """Not from the other prompts; and the same prompt twice is drawn twice."""
    options = {"max_new_tokens": 16, "temperature": 1.5, "rows": 2}
    first, twin, other = generate(model, [prompts[0], prompts[0], prompts[1]], "random", 24, **options)
    moved = generate(model, [prompts[1], prompts[0]], "random", 24, **options)
    reseeded = generate(model, prompts[:1], "random", 24, seed=1, **options)

    assert [moved[1].token_ids, moved[0].token_ids] == [first.token_ids, other.token_ids]
    assert len({first.token_ids, twin.token_ids, reseeded[0].token_ids}) == 3


def test_tokens_are_shown_as_they_are_written(model: LoadedModel, prompts: list[str]) -> None:
    """Those of the text, in order, and the pieces together are the text; more prompts than rows."""
    shown: dict[int, list[tuple[int, str]]] = {0: [], 1: [], 2: []}
    ended: list[int] = []

    def on_token(index: int, token: int, piece: str) -> None:
        assert index not in ended
        shown[index].append((token, piece))

    texts = generate(
        model,
        prompts[:3],
        "knorm",
        32,
        max_new_tokens=40,
        rows=2,
        on_token=on_token,
        on_text=lambda i, _: ended.append(i),
    )

    assert sorted(ended) == [0, 1, 2]
    assert [[token for token, _ in shown[i]] for i in range(3)] == [list(text.token_ids) for text in texts]
    assert ["".join(piece for _, piece in shown[i]) for i in range(3)] == [text.text for text in texts]
    assert [text.token_ids for text in generate(model, prompts[:3], "knorm", 32, max_new_tokens=40, rows=2)] == [
        text.token_ids for text in texts
    ]


def test_a_text_says_what_it_cost(model: LoadedModel, prompts: list[str]) -> None:
    """In words, and by name."""
    text = generate(model, prompts[0], "knorm", 32, max_new_tokens=12)

    assert str(text) == text.text
    assert repr(text).startswith(f"GeneratedText({text.text[:10]!r}"[:-1])
    assert f"12 tokens to its cap, {text.mean_cache_tokens:.1f} tokens and" in repr(text)
    assert (text.n_events, text.mean_cache_bytes) == (text.ledger.n_events, text.ledger.mean_cache_bytes)
    assert 0 < (text.prompt_survival or 0) < 1


def test_a_budget_without_effect_is_said(model: LoadedModel, prompts: list[str]) -> None:
    """Where nothing was cut, and where a mechanism never cuts; else there is no warning."""
    with pytest.warns(NothingCompressed, match="'knorm' at budget 400 cut nothing: the longest text has"):
        generate(model, prompts[0], "knorm", 400, max_new_tokens=2)
    with pytest.warns(BudgetIgnored, match="'full' never cuts the cache, so budget 32 changes nothing"):
        generate(model, prompts[0], "full", 32, max_new_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, prompts[0], "knorm", 32, max_new_tokens=12)
        generate(model, prompts[0], max_new_tokens=2)


def test_rows_follow_from_memory(model: LoadedModel, prompts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts at once where there is plenty, else what fits; and a machine without room says so."""
    from designspace.program import arm as arm_module
    from designspace.program import rows_for as chosen

    found: list[int] = []

    class Watched(arm_module.Engine):
        def __init__(self, *arguments: Any, rows: int, **options: Any) -> None:
            found.append(rows)
            super().__init__(*arguments, rows=rows, **options)

    monkeypatch.setattr(arm_module, "Engine", Watched)
    longest = max(len(model.encode(prompt)) for prompt in prompts)
    knorm = mechanism("knorm").override("knorm", decoding=Greedy())
    memory = ArmMemory(model, knorm, Budget(32), max_new_tokens=12, max_prompt_tokens=longest, n_prompts=4)
    monkeypatch.setattr(chosen, "_AMPLE", 1000)  # so that a machine without much room is one for these tiny arms too
    for free in (2**34, int(memory.at(2).total / SHARE) + 1 - memory.weights):
        monkeypatch.setattr(chosen, "free_bytes", lambda _, free=free: free)
        generate(model, prompts, "knorm", 32, max_new_tokens=12)
    monkeypatch.setattr(chosen, "free_bytes", lambda _: 2**10)

    assert found == [4, 2]
    with pytest.raises(DeclarationError, match="must hold one row"):
        generate(model, prompts, "knorm", 32, max_new_tokens=12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "knrm"}, "did you mean 'knorm'"),
        ({"mechanism": {"scoring": "snapkvv", "cadance": 1}}, "did you mean 'snapkv'.*|.*did you mean 'cadence'"),
        ({"mechanism": 3}, "got int 3"),
        ({"mechanism": "knorm"}, "needs a budget"),
        ({"budget": True}, "got bool True"),
        ({"budget": {"token": 3}}, "did you mean 'tokens'"),
        ({"budget": {"prompt": 3}}, "prompt and trace"),
        ({"budget": {"tokens": 3.5}}, "at least 1, got 3.5"),
        ({"budget": {"tokens": 32, "of": "men"}}, "of must be .* got 'men'"),
        ({"budget": -1}, "at least 1 token"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"rows": 2.0}, "rows=2.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0, "temperature": 1.0}, "top_p=0.0"),
        ({"prompts": 3}, "got int 3"),
        ({"prompts": {"a": 1}}, "got dict"),
        ({"prompts": [[1, 99999]]}, "got 99999"),
        ({"prompts": [[]]}, "an empty one"),
        ({"prompts": [None]}, "got NoneType"),
        ({"prompts": [1, 2, 3], "system": "Be brief."}, "not to token ids"),
        ({"system": "Be brief."}, "no chat template"),
        ({"step": "fast"}, "step='fast'"),
        ({"mechanism": "self-consistency", "budget": 256, "temperature": 1.0}, "task's grader"),
    ],
)
def test_a_mistake_is_one_clear_error(changes: dict[str, Any], message: str, model: LoadedModel) -> None:
    """It names what was got, and the nearest that is known."""
    arguments: dict[str, Any] = {"model": model, "prompts": "<bos>", "mechanism": "knorm", "budget": 32} | changes
    if changes == {"mechanism": "knorm"}:
        del arguments["budget"]
    with pytest.raises(DesignspaceError, match=message):
        generate(**arguments)


def test_the_package_offers_it() -> None:
    """By these names."""
    assert (designspace.generate, designspace.load) == (generate, load)
    with pytest.raises(UnknownName):
        designspace.generate("pocket-llama", "x", "knorn", 32)


def test_a_text_ends_before_a_stop_string_and_not_too_early(model: LoadedModel, prompts: list[str]) -> None:
    """The tokens up to it are those of the whole text, and what is cut off is the string and all behind it."""
    whole = generate(model, prompts[0], "full", max_new_tokens=48, rows=1)
    word = whole.text.split()[4]
    cut = generate(model, prompts[0], "full", max_new_tokens=48, rows=1, stop=f" {word}")
    long = generate(model, prompts[0], "full", max_new_tokens=300, min_new_tokens=290, rows=1)

    assert cut.text == whole.text.split(f" {word}")[0]
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert cut.finish_reason == "stop"
    assert len(long.token_ids) >= 290
    for wrong in ({"stop": ""}, {"stop": [3]}, {"min_new_tokens": -1}):
        with pytest.raises(DeclarationError, match=next(iter(wrong))):
            generate(model, prompts[0], "full", **wrong)


def test_a_mapping_is_what_the_chat_template_is_given(model: LoadedModel) -> None:
    """The tokens are those that transformers' own template call gives; a name that it never reads is refused."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if think %} so{% else %} then{% endif %}"
    )
    chatty = replace(model, tokenizer=tokenizer)
    prompt = "Solve Problem : 1 and 2"
    expected = {
        think: tokenizer.apply_chat_template([{"role": "user", "content": prompt}], think=think, return_dict=False)
        for think in (False, True)
    }
    found = {think: encoded(chatty, prompt, Greedy(), None, {"think": think}) for think in (False, True)}

    assert {think: list(ids) for think, ids in found.items()} == expected
    assert expected[True] != expected[False]
    with pytest.raises(DesignspaceError, match="thinc"):
        encoded(chatty, prompt, Greedy(), None, {"thinc": True})
