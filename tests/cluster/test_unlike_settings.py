"""Two models whose generation_config.json differ, in one run: each generates as if its numbers stood in the sweep."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.run import run_sweep
from designspace.report import declared_study, study_report
from designspace.store import ResultsStore
from tests.cluster import tiny

FILES = {
    "tiny-a": {"do_sample": True, "temperature": 0.9, "min_p": 0.02},
    "tiny-b": {"do_sample": False, "repetition_penalty": 1.3},
}
WRITTEN = "temperature: 0.0, repetition_penalty: 1.3"


def test_each_model_generates_with_its_own_settings(tmp_path: Path) -> None:
    """The texts are those of a sweep with the numbers, of which nothing is left to do; the report says what differs."""
    path = tiny.write_sweep(tmp_path, max_new_tokens=12)
    for name, content in FILES.items():
        (tmp_path / name / "generation_config.json").write_text(json.dumps(content))
    declared = path.read_text().replace("temperature: 1.0", "preset: model").replace("count: 2", "count: 1")
    path.write_text(declared)
    alone = tmp_path / "alone.yaml"
    alone.write_text(declared.replace("preset: model", WRITTEN).replace("study: tiny", "study: alone"))
    store, other = tmp_path / "results", tmp_path / "other"
    for sweep, root in ((path, store), (alone, other)):
        run_sweep(sweep, root, executor="inline")

    def texts(root: Path) -> dict[tuple[str, str, str], list[int]]:
        columns = ["model", "mechanism", "problem_id", "token_ids"]
        rows = ResultsStore.open(root, create=False).samples(columns).to_table().to_pylist()
        return {(row["model"], row["mechanism"], row["problem_id"]): row["token_ids"] for row in rows}

    together, expected = texts(store), texts(other)
    of_b = [key for key in together if key[0] == "tiny-b"]
    assert len(of_b) == len(together) // 2 == 3 * tiny.N_PROBLEMS
    assert all(together[key] == expected[key] for key in of_b)
    assert any(together[key] != expected[key] for key in together)  # drawn, not greedy, on the other model
    opened = ResultsStore.open(store, create=False)
    study = declared_study(opened)
    assert study is not None
    notes = " ".join(study_report(opened, study).notes)
    assert (
        "(tiny-a: min_p 0.02, repetition_penalty 1, temperature 0.9; tiny-b: min_p 0, repetition_penalty 1.3, " in notes
    )
    assert "temperature" not in study.document["generation"]
    assert study.document["mechanisms"][0]["axes"]["decoding"] == {"kind": "as generation says"}
