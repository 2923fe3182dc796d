"""Inspect's own provider for models of transformers and ours: the same texts and scores; with a mechanism others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from designspace.errors import DeclarationError
from tests.harness.asked import ANSWER, FOLDER, MODEL, N_NEW, N_PROBLEMS, problems

pytestmark = pytest.mark.harness


def evaluated(model: Any, folder: Path, **options: Any) -> Any:
    """Return the log of an evaluation."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import pattern
    from inspect_ai.solver import generate

    samples = [Sample(input=prompt, target=answer) for prompt, answer in problems()]
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=pattern(ANSWER))
    (log,) = evaluate(task, model=model, display="none", log_dir=str(folder), **options)
    return log


def texts(log: Any) -> list[str]:
    """Return what was written, by sample."""
    assert log.status == "success", log.error
    return [sample.output.completion for sample in sorted(log.samples, key=lambda sample: (sample.id, sample.epoch))]


def accuracy(log: Any) -> float:
    """Return the share that was right."""
    return float(log.results.scores[0].metrics["accuracy"].value)


def test_the_full_cache_is_inspects_own_provider(tmp_path: Path) -> None:
    """Text by text, so score by score; a mechanism changes both, and the log says what each cache held."""
    from inspect_ai.model import GenerateConfig, get_model

    # Theirs stacks user messages and has no chat template here; both write `user: …` before a prompt.
    config = GenerateConfig(max_tokens=N_NEW)
    hf = get_model("hf/own", model_path=FOLDER, device="cpu", do_sample=False, dtype="float32", config=config)
    theirs = evaluated(hf, tmp_path)
    ours = evaluated(get_model(f"designspace/{MODEL}", rows=N_PROBLEMS, config=config), tmp_path)
    cut = evaluated(
        f"designspace/{MODEL}", tmp_path, model_args={"mechanism": "streaming-llm", "budget": 40}, max_tokens=N_NEW
    )

    assert (texts(ours), accuracy(ours)) == (texts(theirs), accuracy(theirs))
    assert accuracy(theirs) > accuracy(cut)
    said = [sample.output.metadata["designspace"] for sample in cut.samples]
    assert {(one["mechanism"], one["budget"]) for one in said} == {("streaming-llm", "40")}
    assert all(35 < one["texts"][0]["mean_cache_tokens"] <= 41 for one in said)
    assert [sample.output.usage.output_tokens for sample in cut.samples] == [
        one["texts"][0]["n_new_tokens"] for one in said
    ]


def test_settings_reach_the_texts(tmp_path: Path) -> None:
    """Caps, stops, choices and epochs; a repeated sample is another draw."""
    log = evaluated(
        f"designspace/{MODEL}",
        tmp_path,
        max_tokens=12,
        temperature=4.0,
        stop_seqs=[" thus "],
        num_choices=2,
        epochs=2,
        limit=2,
        seed=3,
    )

    assert len(log.samples) == 4
    for sample in log.samples:
        assert len(sample.output.choices) == 2
        assert not any(" thus " in choice.message.text for choice in sample.output.choices)
        assert {choice.stop_reason for choice in sample.output.choices} <= {"stop", "max_tokens"}
    assert len(set(texts(log))) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"top_k": 5}, "takes no top_k, got top_k=5"), ({"logprobs": True}, "takes no logprobs")],
)
def test_a_setting_that_is_not_known_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    """By its name, in the log."""
    log = evaluated(f"designspace/{MODEL}", tmp_path, max_tokens=4, limit=1, **options)

    assert log.status == "error"
    assert message in log.error.message


def test_an_argument_that_is_not_known_is_refused() -> None:
    """With the nearest that is."""
    from inspect_ai.model import get_model

    with pytest.raises(DeclarationError, match=r"unknown model argument 'mechanisms' .did you mean 'mechanism'"):
        get_model(f"designspace/{MODEL}", mechanisms="knorm")
