"""`status` while a run is on: who is at work, at which arms, how fast, and when it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from designspace.cli import app as cli
from designspace.cli.running import running, running_text
from designspace.store import ResultsStore
from designspace.store.layout import ShardKey
from tests.designspace.query.stored_study import write_study


@pytest.fixture
def store(tmp_path: Path) -> ResultsStore:
    """A study of nine cells of one shard each, of which the last two are missing; the others came ten seconds apart."""
    found = write_study(tmp_path / "quickstart", leave_out=2)
    for number, key in enumerate(sorted(found.shards())):
        path = next((tmp_path / "quickstart/samples").rglob(f"{key.shard_id}.parquet"))
        os.utime(path, (1000 + 10 * number, 1000 + 10 * number))
    return found


def missing(store: ResultsStore) -> list[ShardKey]:
    """Return the shards that the study still lacks."""
    (document,) = store.studies()["quickstart"]
    done = {key.cell_id for key in store.shards()}
    ids = [cell["cell_id"] for cell in document["cells"] if cell["cell_id"] not in done]
    return [ShardKey(cell_id, cell_id[:32]) for cell_id in ids]


def test_a_run_that_is_on_is_told_with_its_speed_and_its_end(store: ResultsStore) -> None:
    """Seven shards in sixty seconds: six a minute; two are left, so twenty seconds."""
    (document,) = store.studies()["quickstart"]
    assert running(store, store.shards(), document["cells"]) is None
    with store.leases() as leases:
        for key in missing(store):
            assert leases.take(key)
        found = running(store, store.shards(), document["cells"])
        assert found is not None
        assert found["runs"] == [f"process {os.getpid()} on {leases.me.place.partition('/')[0]}"]
        assert (found["n_shards"], found["left_s"]) == (2, pytest.approx(20))
        assert found["shards_per_minute"] == pytest.approx(6)
        assert list(found["arms"]) == ["alpha+none at 112 on trace-llama", "triattention+none at 112 on trace-llama"]
        shown = CliRunner().invoke(cli.app, ["status", str(store.root)]).output
        assert "6.0 shards a minute, about 1 min left" in shown and "alpha+none at 112 on trace-llama" in shown
    assert running(store, store.shards(), document["cells"]) is None
    assert "no run is on" in CliRunner().invoke(cli.app, ["status", str(store.root)]).output


def test_what_a_run_says_of_its_shards_is_told(store: ResultsStore) -> None:
    """Texts and tokens so far, and its own estimate, which is there before any shard is done; of two runs each has a line."""
    (document,) = store.studies()["quickstart"]
    said = {
        "n_rows": 64, "n_rows_done": 3, "n_tokens": 12_345, "tokens_per_s": 870.4, "left_s": 750.0, "left_is_bound": True,
        "at_work": {"n_rows": 32, "n_rows_done": 1, "n_tokens": 2_345},
    }  # fmt: skip
    with store.leases() as leases, store.leases() as others:
        first, second = missing(store)
        leases.take(first)
        leases.say(said)
        text = running_text(running(store, store.shards(), document["cells"]))
        assert "3/64 texts, 12,345 tokens, 870 tokens/s; of the shards at work 1/32 texts, 2,345 tokens" in text
        assert "at most 12 min left" in text
        others.take(second)
        others.say(said | {"left_is_bound": False})
        text = running_text(running(store, store.shards(), document["cells"]))
        assert 2 == text.count("3/64 texts")
        assert "about 1 min left" in text


def test_too_few_shards_tell_no_end() -> None:
    """And hours are told as hours."""
    few = {"runs": [], "arms": {"a at 8 on m": 3}, "shards_per_minute": None, "left_s": None, "left_is_bound": False}
    few["at_work"] = []
    assert "too few shards are done to say when it ends" in running_text(few)
    long = {**few, "shards_per_minute": 0.5, "left_s": 7260.0}
    assert "0.5 shards a minute, about 2 h 01 min left" in running_text(long)
    assert "a at 8 on m x3" in running_text(long)


def test_watching_ends_when_all_is_done(tmp_path: Path) -> None:
    """A finished study is shown once."""
    root = write_study(tmp_path / "quickstart").root
    result = CliRunner().invoke(cli.app, ["status", str(root), "--watch", "1", "--json"])
    assert result.exit_code == 0
    (found,) = json.loads(result.output)["studies"]
    assert (found["n_committed"], found["n_shards"], found["running"]) == (9, 9, None)
