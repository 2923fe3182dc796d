"""A prompt's tokens are stored, and a cell is never gone on with under other ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.run import run_sweep
from designspace.models.loading import LoadedModel, load_model
from designspace.report import declared_study, study_report
from designspace.store import ResultsStore
from sweeps.spec import load_sweep
from tests.cluster.tiny import write_replicated

QUIET = {"executor": "inline", "progress": "none"}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose cells have several shards."""
    return write_replicated(tmp_path, mechanisms="[full, streaming-llm]", replicates=1)


def render_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one more token in front of every prompt, as a template does that writes the date."""
    encode = LoadedModel.encode
    monkeypatch.setattr(LoadedModel, "encode", lambda *given, **options: (3, *encode(*given, **options)))


def test_token_ids_are_those_of_the_texts(sweep: Path, tmp_path: Path) -> None:
    """Decoded, they are the stored text; encoded, the prompt."""
    run_sweep(sweep, tmp_path / "r", **QUIET)
    loaded = load_model(load_sweep(sweep).models[0])
    rows = ResultsStore.open(tmp_path / "r").samples().to_table().to_pylist()
    for row in rows:
        assert loaded.decode(row["token_ids"]) == row["text"]
        assert len(row["token_ids"]) == row["n_new_tokens"]
        assert tuple(row["prompt_token_ids"]) == loaded.encode(row["prompt"])
        assert row["prompt_text"] == loaded.tokenizer.decode(row["prompt_token_ids"])
        assert (row["prompt_survival_mean"] < 1) == (row["n_evicted"] > 0 and row["mechanism"] != "full")


def test_a_cell_is_not_gone_on_with_under_other_prompts(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard that is done stays; the others are given up with a line that says where prompts begin to differ."""
    run_sweep(sweep, tmp_path / "r", limit=1, **QUIET)
    with monkeypatch.context() as patched:
        render_otherwise(patched)
        outcome = run_sweep(sweep, tmp_path / "r", **QUIET)
    (message,) = {lost.message for lost in outcome.quarantined}
    assert "differs from token 0 on" in message
    assert "(--results)" in message
    assert run_sweep(sweep, tmp_path / "r", **QUIET).complete


def test_arms_with_other_prompts_are_said_to_have(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell by itself is whole, so only a report can tell."""
    run_sweep(sweep, tmp_path / "r", only=lambda cell: cell.mechanism.name == "full", **QUIET)
    render_otherwise(monkeypatch)
    run_sweep(sweep, tmp_path / "r", **QUIET)
    store = ResultsStore.open(tmp_path / "r")
    notes = study_report(store, declared_study(store)).notes
    assert [note for note in notes if "The prompts of" in note and "are other tokens than" in note]
