"""Summaries equal numbers computed by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.errors import StoreError
from designspace.report import summarise, to_json, wording
from designspace.report.figure import accuracy_figure
from designspace.statistics import proportion_interval


def by_mechanism(arms):
    """Summaries by their mechanism."""
    return {arm.mechanism: arm for arm in arms}


def test_overlapping_shards_of_one_worker_are_timed_once(make_table):
    """0-2 s and 1-4 s on one worker, 10-12 s on it later, 1-3 s on another: 4 + 2 + 2 seconds."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    spans = [("a", 0, 2.0), ("a", 1, 3.0), ("a", 10, 2.0), ("b", 1, 2.0)]
    rows = [
        {
            "problem_id": f"p{i}", "shard_id": str(i), "worker": worker, "shard_wall_s": wall_s,
            "started_at": begun + timedelta(seconds=start_s),
        }
        for i, (worker, start_s, wall_s) in enumerate(spans)
    ]  # fmt: skip
    (arm,) = summarise(make_table(*rows))
    assert arm.tokens_per_s == pytest.approx(400 / 8.0)


def test_an_arm_that_evicts_without_a_budget_is_unmatched(make_table):
    """It is no reference, and carries no budget: `growing` follows the text."""
    none = {"budget": "none", "budget_tokens": None, "budget_of": None}
    full = none | {"mechanism": "full", "n_events": 0, "mean_cache_tokens": 200.0}
    arms = by_mechanism(summarise(make_table(full, none | {"mechanism": "rpc"}, {"mechanism": "h2o"})))
    assert {name: arm.comparison for name, arm in arms.items()} == {
        "full": "reference", "rpc": "unmatched", "h2o": "matched"
    }  # fmt: skip
    assert wording.budget_heading(arms["rpc"]) == "no budget"
    assert wording.comparable(arms["rpc"]) == "no: unmatched (no budget)"
    lines = accuracy_figure(list(arms.values())).axes[0].lines
    assert len([line for line in lines if line.get_marker() in "os" and list(line.get_xdata()) == [48.0]]) == 2


def test_one_arm_by_hand(make_table):
    """Every figure of one arm, computed on paper."""
    table = make_table(
        {"problem_id": "a", "n_new_tokens": 100, "mean_cache_tokens": 40.0, "peak_cache_tokens": 50.0, "correct": True},
        {
            "problem_id": "b", "n_new_tokens": 300, "mean_cache_tokens": 50.0, "peak_cache_tokens": 57.0, "correct": False,
            "finish_reason": "length", "extracted": None, "n_events": 0, "steady_mean_cache_tokens": None,
        },
        {
            "problem_id": "c", "n_new_tokens": 0, "mean_cache_tokens": 9.0, "peak_cache_tokens": 9.0, "correct": False,
            "shard_id": "second", "shard_wall_s": 3.0, "worker": "w1", "mean_aux_bytes": 7.0, "mean_cache_bytes": 5.0,
        },
    )  # fmt: skip
    (arm,) = summarise(table)
    assert (arm.n_generations, arm.n_problems, arm.n_graded) == (3, 3, 3)
    assert arm.accuracy == pytest.approx(1 / 3)
    assert arm.interval == proportion_interval(1, 3)
    assert arm.lenient_accuracy == 1.0
    assert arm.extraction_rate == pytest.approx(2 / 3)
    assert arm.accuracy_given_extraction == pytest.approx(1 / 2)
    assert arm.truncation_rate == pytest.approx(1 / 3)
    assert arm.mean_cache_tokens == pytest.approx((100 * 40 + 300 * 50) / 400)
    assert arm.steady_mean_cache_tokens == pytest.approx(48.0)
    assert arm.peak_cache_tokens == 57.0
    assert (arm.mean_cache_bytes, arm.mean_read_bytes, arm.mean_aux_bytes) == (1024.0, 2048.0, 0.0)
    assert arm.mean_n_events == pytest.approx(8 / 3)
    assert arm.event_share == pytest.approx(2 / 3)
    assert arm.tokens_per_s == pytest.approx(400 / 5.0)
    assert arm.mean_new_tokens == pytest.approx(400 / 3)


def test_true_step_counts_are_used_where_known(make_table):
    """The per-step list says how many decode steps there were, which is not the number of new tokens."""
    table = make_table({"problem_id": "a", "mean_cache_tokens": 10.0}, {"problem_id": "b", "mean_cache_tokens": 20.0})
    steps = pa.array([[10.0], [20.0] * 3], type=pa.list_(pa.float32()))
    (arm,) = summarise(table.append_column("cache_tokens_per_step", steps))
    assert arm.mean_cache_tokens == pytest.approx(70 / 4)


def test_replicates_count_once_per_problem(make_table):
    """A problem with more generations than another does not weigh more."""
    rows = [{"problem_id": "a", "replicate": r, "correct": r == 0} for r in range(4)]
    (arm,) = summarise(make_table(*rows, {"problem_id": "b", "correct": True}))
    assert arm.accuracy == pytest.approx((1 / 4 + 1) / 2)
    assert arm.interval.method == "cluster bootstrap over problems"
    assert arm.n_problems == 2
    assert (arm.configuration, arm.mechanism) == (None, "h2o")


def test_matched_unmatched_and_reference(small):
    """The reference is the median of the group; an arm without a budget is never unmatched."""
    arms = by_mechanism(summarise(small))
    assert {name: arm.comparison for name, arm in arms.items()} == {
        "full": "reference",
        "h2o": "matched",
        "r-kv": "matched",
        "greedy": "unmatched",
    }
    assert arms["h2o"].reference_held == 48.0
    assert arms["full"].reference_held is None
    assert by_mechanism(summarise(small, tolerance=0.25))["greedy"].comparison == "matched"


@pytest.mark.parametrize(
    ("mean", "expected"), [(98.0, "matched"), (102.0, "matched"), (97.9, "unmatched"), (102.1, "unmatched")]
)
def test_the_tolerance_is_inclusive(make_table, mean, expected):
    """Two per cent off is still matched."""
    rows = [{"mechanism": f"m{i}", "mean_cache_tokens": 100.0} for i in range(3)]
    arms = summarise(make_table(*rows, {"mechanism": "x", "mean_cache_tokens": mean}))
    assert by_mechanism(arms)["x"].comparison == expected


@pytest.mark.parametrize(
    ("reference", "mean"), [(48.0, 48.96), (48.0, 47.04), (50.0, 51.0), (96.0, 97.92), (24.0, 24.48)]
)
def test_exactly_two_per_cent_is_matched_and_on_target(make_table, reference, mean):
    """Whatever floating point makes of the difference."""
    target = {"budget_tokens": int(reference), "budget": str(int(reference))}
    rows = [{"mechanism": f"m{i}", "mean_cache_tokens": reference, "steady_mean_cache_tokens": mean} for i in range(3)]
    rows.append({"mechanism": "x", "mean_cache_tokens": mean, "steady_mean_cache_tokens": mean})
    arms = summarise(make_table(*(row | target for row in rows)))

    assert {arm.comparison for arm in arms} == {"matched"}
    assert not any(arm.is_off_target for arm in arms)


def test_groups_do_not_mix(make_table):
    """Each model, task, split and budget has a reference of its own."""
    table = make_table(
        {"budget": "48", "mean_cache_tokens": 48.0},
        {"budget": "96", "budget_tokens": 96, "mean_cache_tokens": 96.0},
        {"model": "other", "mean_cache_tokens": 30.0},
        {"split": "confirm", "mean_cache_tokens": 20.0},
    )
    assert {arm.comparison for arm in summarise(table)} == {"matched"}


def test_target_deviation_concerns_declared_means_only(make_table):
    """A steady mean off the budget is flagged when the budget is a mean, and not when it is nominal."""
    off = {"steady_mean_cache_tokens": 55.0}
    assert summarise(make_table(off))[0].is_off_target
    assert not summarise(make_table({}))[0].is_off_target
    assert not summarise(make_table(off | {"budget_of": "nominal", "budget": "48 nominal"}))[0].is_off_target


def test_kinds_are_broken_down(small):
    """Accuracy per kind of problem."""
    kinds = {kind.kind: (kind.n_problems, kind.accuracy) for kind in by_mechanism(summarise(small))["r-kv"].kinds}
    assert kinds == {"loop": (2, 0.5), "once": (2, 1.0)}


def test_ungraded_rows_leave_accuracy_open(make_table):
    """Rows that nobody graded count for the cache and not for the accuracy."""
    open_grades = {"correct": None, "lenient_correct": None, "extracted": None, "grader_id": None}
    (arm,) = summarise(make_table(open_grades))
    assert (arm.accuracy, arm.interval, arm.extraction_rate, arm.accuracy_given_extraction) == (None,) * 4
    assert (arm.mean_cache_tokens, arm.n_graded, arm.kinds, arm.grader_ids) == (48.0, 0, (), ())


def test_order_is_full_cache_first_then_by_accuracy(small):
    """The best arm of a budget comes first."""
    assert [arm.mechanism for arm in summarise(small)] == ["full", "greedy", "r-kv", "h2o"]


def test_empty_and_incomplete_tables(make_table, small):
    """No rows give no arms; a missing column is named."""
    assert summarise(make_table()) == []
    with pytest.raises(StoreError, match="needs the column 'correct'"):
        summarise(small.drop_columns(["correct"]))


def test_json_holds_everything(small):
    """The machine-readable form is plain JSON and carries interval, comparison and kinds."""
    document = json.loads(json.dumps(to_json(summarise(small), ["a note"]), allow_nan=False))
    assert document["notes"] == ["a note"]
    arm = document["arms"][1]
    assert (arm["mechanism"], arm["comparison"], arm["accuracy"]) == ("greedy", "unmatched", 1.0)
    assert set(arm["interval"]) == {"low", "high", "method"}
    assert arm["kinds"][0] == {"kind": "loop", "n_problems": 2, "accuracy": 1.0}


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(16)))
def test_the_order_of_rows_is_irrelevant(order):
    """Any permutation of the rows gives the same summaries."""
    rows = _shuffled_source()
    assert summarise(rows.take(pa.array(list(order)))) == summarise(rows)


def _shuffled_source():
    # Built here, because Hypothesis runs one test many times and fixtures are made once.
    from designspace.report.summary import COLUMNS
    from designspace.store import RESULTS_SCHEMA

    text = {"model": "m", "task": "t", "split": "dev", "budget": "48", "budget_of": "mean", "kind": "loop"}
    text |= {"finish_reason": "stop", "grader_id": "g1", "extracted": "1", "correct": True, "lenient_correct": True}
    rows = []
    for i in range(16):
        arm = f"m{i % 4}"
        numbers = {name: float(i + 1) for name in COLUMNS if name not in text}
        numbers |= {"budget_tokens": 48, "replicate": 0, "n_new_tokens": 100, "n_events": i, "shard_wall_s": 2.0}
        numbers |= {"worker": "w0", "started_at": datetime(2026, 1, 1, tzinfo=UTC)}
        ids = {"cell_id": arm, "shard_id": arm, "mechanism": arm, "problem_id": f"p{i // 4}"}
        rows.append(text | numbers | ids | {"correct": i % 3 == 0})
    return pa.Table.from_pylist(rows, schema=pa.schema([RESULTS_SCHEMA.field(name) for name in COLUMNS]))
