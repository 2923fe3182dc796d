"""The report says what the registration asked, and nothing where memory is unmatched or rows are missing."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.protocol.analysis import analyse, report_bytes
from designspace.protocol.registration import document_hash
from designspace.protocol.selection import Selection
from tests.designspace.protocol.documents import (
    HEAD,
    TUNED,
    TUNED_ARMS,
    by_chance,
    data_of,
    document,
    hypothesis,
    problem_of,
    rows,
    table,
)


def report(registered, found, selection=None, look=1):
    """Return the report of these rows."""
    return analyse(registered, selection, table(found), HEAD, look)


def of(result, name):
    """Return the result of one hypothesis."""
    return next(found for found in result["hypotheses"] if found["id"] == name)


def mine(found, model="toy-qwen", budget="48", arm=None):
    """Return the rows of one cell, and of one arm of it if named."""
    return [r for r in found if (r["model"], r["budget"]) == (model, budget) and arm in (None, r["mechanism"])]


def one_cell(**changes):
    """Return a document of one hypothesis."""
    return document(**{"hypotheses": [hypothesis()], "m": 1, "decision": None, **changes})


ONE = "alpha-vs-baseline/toy-qwen/48"


def test_effect_is_the_mean_over_problems_of_the_difference():
    """Computed here from the rows in the most obvious way."""
    registered = document()
    found = rows(registered)
    result = report(registered, found)
    for hyp in registered["hypotheses"]:
        cell = [r for r in found if (r["model"], r["budget"]) == (hyp["model"], hyp["budget"])]
        total = 0.0
        for problem in {r["problem_id"] for r in cell}:
            for arm, sign in (("alpha", 1), ("baseline", -1)):
                values = [r["correct"] for r in cell if (r["mechanism"], r["problem_id"]) == (arm, problem)]
                assert len(values) == 3
                total += sign * sum(values) / 3
        judged = of(result, hyp["id"])
        assert judged["status"] == "ok"
        assert judged["effect"] == pytest.approx(total / 20, abs=1e-12)
        assert judged["direction"] == ("positive" if total > 1e-9 else "negative" if total < -1e-9 else "none")
        assert judged["low"] <= judged["effect"] <= judged["high"]
        assert judged["level"] == 0.95


def test_sign_flip_p_of_few_problems_is_that_of_all_patterns():
    """Eight problems, all 256 patterns of signs, by hand."""
    heldout = [problem_of(f"confirm-{i}") for i in range(8)]
    data = data_of(heldout)
    registered = one_cell(data=data)

    def right(model, budget, arm, problem, replicate):
        return by_chance(model, budget, arm, problem, replicate) if arm == "baseline" else int(problem[8:]) < 6

    found = rows(registered, right)
    cell = mine(found)
    differences = [
        sum(r["correct"] for r in cell if (r["problem_id"], r["mechanism"]) == (p.problem_id, "alpha"))
        - sum(r["correct"] for r in cell if (r["problem_id"], r["mechanism"]) == (p.problem_id, "baseline"))
        for p in heldout
    ]
    observed = abs(sum(differences))
    patterns = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
                for signs in itertools.product((1, -1), repeat=8)]  # fmt: skip
    expected = sum(value >= observed for value in patterns) / len(patterns)
    assert 0 < expected < 1
    assert of(report(registered, found), ONE)["p"] == pytest.approx(expected, abs=1e-12)


def test_bonferroni_and_holm_with_the_registered_family():
    """Adjusted by hand; a family that counts more than is here stays as large as registered."""
    registered = document(m=7)
    result = report(registered, rows(registered))
    p_values = [found["p"] for found in result["hypotheses"]]
    assert result["threshold"] == pytest.approx(0.05 / 7)
    running = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, (7 - rank) * p_values[index])
        found = result["hypotheses"][index]
        assert found["bonferroni_p"] == pytest.approx(min(1, 7 * p_values[index]))
        assert found["holm_p"] == pytest.approx(min(1, running))
        assert found["significant"] == (p_values[index] <= 0.05 / 7)


def test_void_hypothesis_keeps_its_place_in_the_family():
    """Others do not become easier."""
    registered = document()
    found = rows(registered)
    whole = report(registered, found)
    for row in mine(found, arm="alpha"):
        row["mean_cache_tokens"] *= 1.1
    part = report(registered, found)
    other = "alpha-vs-baseline/toy-llama/96"
    assert of(part, ONE)["status"] == "void"
    assert of(part, other)["bonferroni_p"] == of(whole, other)["bonferroni_p"]


def test_figures_beside_the_effect():
    """Accuracy, extraction, accuracy given extraction, length, truncation: counted by hand."""
    registered = one_cell()
    found = rows(registered)
    cell = mine(found, arm="alpha")
    for row in cell[:15]:
        row["finish_reason"], row["n_new_tokens"] = "length", 320
    figures = of(report(registered, found), ONE)["arms"]["arm"]
    answered = [r for r in cell if r["extracted"] is not None]
    assert figures["accuracy"] == pytest.approx(sum(r["correct"] for r in cell) / 60)
    assert figures["extraction_rate"] == pytest.approx(len(answered) / 60)
    assert figures["accuracy_given_extraction"] == pytest.approx(sum(r["correct"] for r in answered) / len(answered))
    assert figures["truncation_rate"] == 15 / 60
    assert figures["mean_new_tokens"] == pytest.approx((15 * 320 + 45 * 100) / 60)


NOTHING = ("effect", "low", "high", "p", "p_difference", "p_t", "claim", "significant", "holm_p", "bonferroni_p")


@pytest.mark.parametrize(
    ("column", "factor", "why"),
    [
        ("steady_mean_cache_tokens", 1.03, "the steady mean of alpha must be 48 within 2.0%, got 49.4"),
        ("steady_mean_cache_tokens", 0.97, "the steady mean of alpha must be 48"),
        ("mean_cache_tokens", 1.021, "the realised means must agree within 2.0%: alpha has 49.0 tokens"),
        ("mean_cache_tokens", 0.979, "the realised means must agree within 2.0%"),
        ("n_events", 0, "at least 50% of the generations of alpha must have an event, got 0.0%"),
    ],
)
def test_unmatched_memory_gives_no_result(column, factor, why):
    """The numbers and the reason stand, an effect and a p value do not."""
    registered = one_cell()
    found = rows(registered)
    for row in mine(found, arm="alpha"):
        row[column] = type(row[column])(row[column] * factor)
    judged = of(report(registered, found), ONE)
    assert judged["status"] == "void"
    assert why in judged["reason"]
    assert all(judged[name] is None for name in NOTHING)
    assert judged["memory"]["baseline"]["mean"] == 48


def test_within_the_tolerance_is_matched():
    """At just under two per cent."""
    registered = one_cell()
    found = rows(registered)
    for row in mine(found, arm="alpha"):
        row["steady_mean_cache_tokens"] *= 1.0199
        row["mean_cache_tokens"] *= 1.0199
    assert of(report(registered, found), ONE)["status"] == "ok"


def test_no_steady_state_is_void():
    """A mean budget that never bites is not matched by anything."""
    registered = one_cell()
    found = rows(registered)
    for row in mine(found, arm="alpha"):
        row["steady_mean_cache_tokens"] = None
    assert "no steady state" in of(report(registered, found), ONE)["reason"]


def test_half_of_the_generations_with_an_event_is_enough():
    """The bound belongs to what is allowed."""
    registered = one_cell()
    found = rows(registered)
    for row in mine(found, arm="alpha")[:30]:
        row["n_events"] = 0
    assert of(report(registered, found), ONE)["status"] == "ok"
    mine(found, arm="alpha")[30]["n_events"] = 0
    assert of(report(registered, found), ONE)["status"] == "void"


def test_a_budget_in_bytes_is_matched_in_bytes():
    """More tokens in fewer bits are allowed there, more bytes are not."""
    registered = one_cell(budgets=[{"label": "48 in bytes", "tokens": 48, "of": "bytes"}])
    registered["hypotheses"][0]["budget"] = "48 in bytes"
    found = rows(registered)
    for row in found:
        if row["mechanism"] == "alpha":
            row["mean_cache_tokens"] *= 4
    judged = of(report(registered, found), ONE)
    assert (judged["status"], judged["memory"]["unit"]) == ("ok", "bytes")
    for row in found:
        if row["mechanism"] == "alpha":
            row["mean_cache_bytes"] *= 1.05
    assert of(report(registered, found), ONE)["status"] == "void"


def test_a_nominal_budget_has_no_steady_target():
    """Its number is the size after an event; both arms must still agree with each other."""
    registered = one_cell(budgets=[{"label": "48 nominal", "tokens": 48, "of": "nominal"}])
    registered["hypotheses"][0]["budget"] = "48 nominal"
    found = rows(registered)
    for row in found:
        row["steady_mean_cache_tokens"] = row["mean_cache_tokens"] = 112.5
    assert of(report(registered, found), ONE)["status"] == "ok"


def test_missing_generation_makes_it_incomplete_and_withholds_accuracy():
    """A confirmation is not watched while it runs."""
    registered = one_cell()
    found = rows(registered)
    found.remove(mine(found, arm="alpha")[7])
    judged = of(report(registered, found), ONE)
    assert (judged["status"], judged["counts"]["arm"]) == ("incomplete", {"expected": 60, "found": 59, "graded": 59})
    assert all(judged[name] is None for name in NOTHING)
    assert judged["arms"]["arm"] is None
    assert judged["arms"]["baseline"] is not None


def test_no_rows_at_all():
    """Before anything ran there is a report of nothing."""
    registered = document()
    result = report(registered, [])
    assert {found["status"] for found in result["hypotheses"]} == {"incomplete"}
    assert result["status"] == "incomplete"
    assert result["decision"]["branch"] == "void"


def test_ungraded_rows_make_it_incomplete():
    """A generation without a grade is no wrong answer."""
    registered = one_cell()
    found = rows(registered)
    for name in ("grader_id", "answer", "extracted", "grade_status", "correct", "lenient_extracted", "lenient_status",
                 "lenient_correct"):  # fmt: skip
        mine(found, arm="alpha")[3][name] = None
    judged = of(report(registered, found), ONE)
    assert (judged["status"], judged["counts"]["arm"]["graded"]) == ("incomplete", 59)


def test_rows_outside_the_hypotheses_may_be_there():
    """Reference arms and full caches are registered and have no contrast."""
    registered = one_cell()
    found = rows(registered)
    whole = of(report(registered, found), ONE)
    registered["arms"]["full"] = {"kind": "full"}
    spare = [dict(r, mechanism="full", budget="none", budget_tokens=None, budget_of=None, cell_id=f"full/{r['replicate']}")
             for r in mine(found, arm="baseline")]  # fmt: skip
    assert of(report(registered, found + spare), ONE) == whole


@pytest.mark.parametrize(("kind", "p_of"), [("non-inferiority", 0), ("equivalence", 1)])
def test_claims_of_no_harm(kind, p_of):
    """One generation per problem: Tango's statistic at the margin, against a search for its variance by hand."""
    registered = one_cell(
        hypotheses=[hypothesis(kind=kind, margin=0.3)], replicates=1, test={"name": "mcnemar_exact"}, m=2
    )

    def right(model, budget, arm, problem, replicate):
        number = int(problem.removeprefix("confirm-"))
        return number < 12 or (number == 13 and arm == "alpha")

    judged = of(report(registered, rows(registered, right)), ONE)
    n, only_arm, only_baseline = 20, 1, 0

    def z(margin):
        # Highest likelihood of the discordant cells under a difference of `margin`, by brute force.
        best = max(
            (
                only_arm * np.log(q + margin) + only_baseline * (np.log(q) if q else 0.0)
                + (n - only_arm - only_baseline) * np.log(1 - 2 * q - margin), q,
            )
            for q in np.linspace(max(0.0, -margin) + 1e-9, (1 - margin) / 2 - 1e-9, 200001)
        )[1]  # fmt: skip
        return (only_arm - only_baseline - n * margin) / np.sqrt(n * (2 * best + margin - margin**2))

    from scipy.stats import norm

    p_values = [float(norm.sf(z(-0.3))), float(norm.cdf(z(0.3)))]
    expected = p_values[0] if p_of == 0 else max(p_values)
    assert judged["p"] == judged["claim"]["p_value"] == pytest.approx(expected, rel=1e-3)
    assert judged["significant"] == (judged["p"] <= 0.025)
    assert judged["p_difference"] == 1.0
    assert judged["claim"]["alpha"] == 0.025


def test_exploratory_hypotheses_are_not_corrected_and_say_so():
    """They neither count nor pass."""
    registered = one_cell(hypotheses=[hypothesis(), hypothesis(budget="96", primary=False)])
    result = report(registered, rows(registered))
    judged = of(result, "alpha-vs-baseline/toy-qwen/96")
    assert judged["p"] is not None
    assert judged["significant"] is None
    assert any("exploratory" in note for note in result["notes"])


def test_decision_of_the_registered_rules():
    """All of the first model's cells gain, the second's too."""
    registered = document()

    def right(model, budget, arm, problem, replicate):
        return arm == "alpha" or by_chance(model, budget, arm, problem, replicate)

    result = report(registered, rows(registered, right))
    assert result["decision"]["branch"] == "A"
    assert result["decision"]["reasons"][0].startswith("A holds")


def test_report_carries_what_it_rests_on():
    """Hashes, look and head."""
    registered = document()
    result = report(registered, rows(registered), look=2)
    assert result["registration"] == document_hash(registered)
    assert (result["look"], result["ledger_head"]) == (2, HEAD)
    assert result["rows"]["n"] == 2 * 2 * 2 * 20 * 3
    assert len(result["rows"]["cells"]) == 24
    assert any("held-out look #2" in note for note in result["notes"])


def test_report_is_pure_and_plain():
    """The order of rows changes no byte, and the document survives JSON."""
    registered = document()
    found = rows(registered)
    one, two = report(registered, found), report(registered, found[::-1])
    assert report_bytes(one) == report_bytes(two)
    assert json.loads(canonical_json(one)) == one


def test_rows_from_many_files():
    """Files of the store spell their labels each in their own numbers."""
    registered = document()
    found = rows(registered)
    parts = [[row for row in found if row["model"] == model] for model in ("toy-qwen", "toy-llama")]
    joined = pa.concat_tables([table(part) for part in parts])
    assert report_bytes(analyse(registered, None, joined, HEAD, 1)) == report_bytes(report(registered, found))


def test_seconds_of_a_second_run_do_not_change_the_report():
    """The same cells run again give the same report."""
    registered = document()
    found = rows(registered)
    again = [dict(row, shard_wall_s=99.0) for row in found]
    assert report_bytes(report(registered, found)) == report_bytes(report(registered, again))


def test_selection_is_named_in_the_report():
    """With its hash and what was chosen."""
    registered = one_cell(arms=TUNED_ARMS)
    chosen = Selection(document_hash(registered), {TUNED: 0.5}, {})
    result = report(registered, rows(registered), selection=chosen.to_json())
    assert result["selection"] == {"sha256": chosen.sha256, "values": {TUNED: 0.5}}


def test_notes_on_history_and_software():
    """Everything a reader must know comes in words."""
    registered = one_cell(seen=True, parent="9" * 64, amendment="a bug in the prompt", m=5)
    found = rows(registered)
    found[0]["code_id"] = "d" * 40
    notes = "\n".join(report(registered, found)["notes"])
    for text in (
        "seen before",
        "amends registration 999",
        "a bug in the prompt",
        "a family of 5, 1 of them",
        "2 states",
    ):
        assert text in notes


def test_notes_on_size():
    """Significant is not large, and not significant is not nothing."""
    small = one_cell(smallest_effect=0.9)

    def right(model, budget, arm, problem, replicate):
        return arm == "alpha" or int(problem.removeprefix("confirm-")) < 10

    assert any("below the smallest effect" in note for note in report(small, rows(small, right))["notes"])
    plain = one_cell()
    found = rows(
        plain, lambda model, budget, arm, problem, replicate: by_chance(model, budget, "x", problem, replicate)
    )
    assert of(report(plain, found), ONE)["direction"] == "none"
    assert any("no evidence of no gain" in note for note in report(plain, found)["notes"])


def test_no_resample_across_zero_is_no_p_of_zero():
    """The sample itself is one resample of either tail."""
    registered = one_cell(test={"name": "cluster_bootstrap", "resamples": 500, "seed": 1})
    found = rows(registered, lambda model, budget, arm, problem, replicate: arm == "alpha")
    assert of(report(registered, found), ONE)["p"] == pytest.approx(2 / 501)


def test_look_must_be_a_number():
    """From one."""
    with pytest.raises(ProtocolError, match="look must be"):
        report(document(), [], look=0)


PUBLISHED = [  # model, budget, problems gained and lost by one of three answers, points, interval, passes
    ("toy-qwen", "64", 70, 56, 1.56, (-0.89, 4.01), False),
    ("toy-qwen", "128", 124, 81, 4.79, (1.67, 7.92), True),
    ("toy-llama", "64", 39, 19, 2.23, (0.56, 3.90), True),
    ("toy-llama", "128", 51, 53, -0.22, (-2.45, 2.01), False),
]


def test_published_table_is_reproduced():
    """299 problems, three answers each, with the published counts and spreads: the table and branch A come out.

    The published text has no rows; these are made so that each difference is the published count of 897 and the spread
    over problems is that of the published interval.
    """
    heldout = [problem_of(f"confirm-{i}") for i in range(299)]
    data = data_of(heldout)
    registered = document(
        data=data, budgets=[{"label": label, "tokens": int(label), "of": "mean"} for label in ("64", "128")],
        hypotheses=[hypothesis(model=model, budget=budget) for model, budget, *_ in PUBLISHED],
        test={"name": "cluster_bootstrap", "resamples": 10000, "seed": 1},
    )  # fmt: skip
    counts = {(model, budget): (up, down) for model, budget, up, down, *_ in PUBLISHED}

    def right(model, budget, arm, problem, replicate):
        up, down = counts[model, budget]
        number = int(problem.removeprefix("confirm-"))
        gains = arm == "alpha" if number < up else arm == "baseline" and number < up + down
        return replicate == 0 and gains

    result = report(registered, rows(registered, right))
    for model, budget, _, _, points, interval, passes in PUBLISHED:
        judged = of(result, f"alpha-vs-baseline/{model}/{budget}")
        assert round(100 * judged["effect"], 2) == points
        assert 100 * judged["low"] == pytest.approx(interval[0], abs=0.15)
        assert 100 * judged["high"] == pytest.approx(interval[1], abs=0.15)
        assert judged["significant"] is passes
    assert result["threshold"] == 0.0125
    assert result["decision"]["branch"] == "A"
