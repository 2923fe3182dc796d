"""The driver's end of a worker, and what the engine's side answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.against_kvpress import common_start
from benchmarks.engine_side import EngineSide
from benchmarks.json_lines import Fleet, WorkerFailed
from benchmarks.run import available, command, section
from benchmarks.subject import subject


@pytest.fixture
def engine_side(tmp_path: Path) -> EngineSide:
    """The engine's side with the tiny model."""
    side = EngineSide()
    side.load(threads=1, **subject("tiny", tmp_path).file_request)
    return side


def test_new_tokens_are_counted_and_events_are_timed(engine_side: EngineSide, tmp_path: Path) -> None:
    """Every text has the length asked for, the end-of-text token notwithstanding; events are a part of the time."""
    prompts = subject("tiny", tmp_path).prompts(3)
    engine_side.engine("knorm", budget=16, interval=8, rows=2, tokens=40, prompts=prompts, step="plain")
    answer = engine_side.run("knorm", prompts, 20)

    assert 60 == answer["tokens"]
    assert 3 * 3 == answer["n_events"]  # the prompts of 32 tokens, and steps 8 and 16
    assert 0 < answer["event_s"] < answer["wall_s"]
    json.dumps(answer)


def test_an_arm_without_artefact_is_calibrated_on_the_spot(engine_side: EngineSide, tmp_path: Path) -> None:
    """A random model has no calibration file."""
    prompts = subject("tiny", tmp_path).prompts(2)
    engine_side.engine("triattention", budget=16, interval=8, rows=2, tokens=12, prompts=prompts, step="plain")

    assert 2 * 12 == engine_side.run("triattention", prompts, 12)["tokens"]


def test_generate_writes_the_same_tokens(engine_side: EngineSide, tmp_path: Path) -> None:
    """Next to it: transformers' own generate, for as many tokens."""
    assert 2 * 5 == engine_side.generate(subject("tiny", tmp_path).prompts(2), 5)["tokens"]


def test_a_worker_answers_and_fails_aloud() -> None:
    """What goes wrong in the other process is raised here."""
    with Fleet("tests.benchmarks.echo", 2) as fleet:
        answers = fleet.ask("echo", [{"own": 1}, {"own": 2}], shared="x")

        assert [{"own": 1, "shared": "x"}, {"own": 2, "shared": "x"}] == answers
        with pytest.raises(WorkerFailed, match="nothing to divide"):
            fleet.ask("fail")


def test_texts_are_compared_from_the_start() -> None:
    """Up to the first difference."""
    assert 2 == common_start(["a", "b", "c"], ["a", "b", "d", "c"])
    assert 1 == common_start(["a"], ["a", "b"])


def test_every_script_has_its_section() -> None:
    """A script's own heading is kept, one without gets the title it is known by, and options go to those that share them."""
    assert {"against_kvpress", "against_generate", "compression_cost", "refill"} <= set(available())
    ran = command("refill", [])

    assert section("refill", "## Rows\n\nfour\n", ran).startswith(
        "## Rows\n\n`python -m benchmarks.refill --section`\n\nfour"
    )
    assert section("memory", "text", ran).startswith("## Peak memory")
    assert command("against_kvpress", ["--runs", "3"])[-2:] == ["--runs", "3"]
    assert "--runs" not in command("refill", ["--runs", "3"])
