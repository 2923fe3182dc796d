"""The harness's own model of transformers and ours: the same texts and scores; with a mechanism others, and the account."""

from __future__ import annotations

from typing import Any

import pytest

from designspace.errors import DeclarationError
from tests.harness.asked import ANSWER, FOLDER, MODEL, N_NEW, N_PROBLEMS, write

pytestmark = pytest.mark.harness


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A generative task of a local file, made as the harness's own gsm8k is."""
    file = tmp_path_factory.mktemp("data") / "problems.jsonl"
    write(file)
    return {
        "task": "recall",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"until": ["never this"], "do_sample": False, "max_gen_toks": N_NEW},
        "filter_list": [
            {"name": "boxed", "filter": [{"function": "regex", "regex_pattern": ANSWER}, {"function": "take_first"}]}
        ],
    }


def evaluated(model: Any, task: dict[str, Any]) -> tuple[list[str], float, dict[str, Any]]:
    """Return the texts, the accuracy, and what the results say of the model."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    # Without its own tasks, whose thousands of files it would read each time.
    manager = TaskManager(include_defaults=False)
    results = lm_eval.simple_evaluate(model, tasks=[task], log_samples=True, bootstrap_iters=0, task_manager=manager)
    assert results is not None
    texts = [sample["resps"][0][0] for sample in results["samples"]["recall"]]
    return texts, results["results"]["recall"]["exact_match,boxed"], results["config"]


def test_the_full_cache_is_the_harnesss_own_model(task: dict[str, Any]) -> None:
    """Text by text, so score by score; a mechanism changes both, and the results say what its cache held."""
    from lm_eval.models.huggingface import HFLM

    from designspace.harness.lm_eval_model import DesignspaceLM

    theirs, their_score, _ = evaluated(
        HFLM(pretrained=FOLDER, dtype="float32", device="cpu", batch_size=N_PROBLEMS), task
    )
    ours, our_score, _ = evaluated(DesignspaceLM(MODEL, rows=N_PROBLEMS), task)
    model = DesignspaceLM(MODEL, "streaming-llm", 40, rows=N_PROBLEMS)
    cut, cut_score, config = evaluated(model, task)
    said = config["designspace"]

    assert (ours, our_score) == (theirs, their_score)
    assert their_score > 0.8 > cut_score
    assert (said["mechanism"], said["budget"], said["n_texts"]) == ("streaming-llm", "40", N_PROBLEMS)
    assert 35 < said["mean_over_texts"]["mean_cache_tokens"] <= 41
    assert [text.text for text in model.texts] == cut
    assert len(said["texts"]) == N_PROBLEMS


def test_stops_repeats_and_the_name_work(task: dict[str, Any]) -> None:
    """A stop cuts the text; a repeat is another draw; the model is found by its name."""
    from designspace.harness.lm_eval_model import DesignspaceLM

    stops = task["generation_kwargs"] | {"until": [" so ", " thus "], "max_gen_toks": 40}
    texts, _, _ = evaluated(DesignspaceLM(MODEL, rows=N_PROBLEMS), task | {"generation_kwargs": stops})
    drawn = {"until": [], "do_sample": True, "temperature": 2.0, "max_gen_toks": 12}
    model = DesignspaceLM(MODEL, "knorm", 40, rows=N_PROBLEMS)
    evaluated(model, task | {"generation_kwargs": drawn, "repeats": 2})

    assert not any(" so " in text or " thus " in text for text in texts)
    assert len(model.texts) == 2 * N_PROBLEMS
    assert len({text.token_ids for text in model.texts}) > N_PROBLEMS
    named = DesignspaceLM.create_from_arg_string(f"model={MODEL},mechanism=knorm,budget=40,rows=3", {"batch_size": 1})
    assert (named.service.arm.mechanism.name, str(named.service.arm.budget), named.service.rows) == ("knorm", "40", 3)


def test_given_answers_are_not_scored(task: dict[str, Any]) -> None:
    """A multiple-choice task decodes nothing, so it is refused; so is a setting that is not known."""
    from designspace.harness.lm_eval_model import DesignspaceLM

    model = DesignspaceLM(MODEL, "knorm", 40)
    choices = {
        "output_type": "multiple_choice",
        "doc_to_choice": ["1", "2"],
        "doc_to_target": 0,
        "generation_kwargs": None,
    }
    plain = {
        name: value for name, value in task.items() if name not in ("generation_kwargs", "filter_list", "metric_list")
    }
    with pytest.raises(
        DeclarationError, match=r"loglikelihood scores given answers .* mechanism 'knorm' would change no number"
    ):
        evaluated(model, plain | choices)
    with pytest.raises(DeclarationError, match=r"got \{'num_beams': 2\}"):
        evaluated(model, task | {"generation_kwargs": task["generation_kwargs"] | {"num_beams": 2}})
