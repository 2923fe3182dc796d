"""Branches are decided by the rules that were written down, and by nothing else."""

from __future__ import annotations

import itertools

import pytest

from designspace.errors import ProtocolError
from designspace.protocol.decision import Decision, branches_of, check_decision, decide, paper_rules

PAPER = {"rules": "paper", "roles": {"qwen": "Qwen-7B", "llama": "Llama-8B"}}
PUBLISHED = [  # model, budget, right answers gained of 897, published points, p, passes Bonferroni
    ("Qwen-7B", "64", 14, 1.56, 0.20, False),
    ("Qwen-7B", "128", 43, 4.79, 0.0022, True),
    ("Llama-8B", "64", 20, 2.23, 0.0054, True),
    ("Llama-8B", "128", -2, -0.22, 0.86, False),
]


def cell(model="Qwen-7B", budget="64", effect=0.0, p=1.0, significant=False, status="ok", **more):
    """Return the result of one cell."""
    return {
        "id": f"{model}/{budget}", "contrast": "alpha", "model": model, "task": "math500", "budget": budget,
        "status": status, "effect": effect, "p": p, "significant": significant, **more,
    }  # fmt: skip


def published():
    """Return the published cells."""
    return [
        cell(model, budget, gained / 897, p, passed)
        for model, budget, gained, _, p, passed in PUBLISHED
    ]  # fmt: skip


def paper_branch(qwen, llama):
    """Return the branch from the text of the paper, written without the language of rules: (effect, p) of each cell."""
    if not any(effect > 0 and p < 0.05 for effect, p in qwen):
        return "C"
    on_average = sum(effect for effect, _ in llama) / len(llama) > 0
    no_loss = not any(effect < 0 and p < 0.05 for effect, p in llama)
    return "A" if on_average and no_loss else "B"


def test_published_cells_give_branch_a():
    """The paper's own conclusion."""
    decision = decide(PAPER, published())
    assert decision.branch == "A"
    assert "Qwen-7B/128 (+4.79 points, p = 0.0022)" in decision.reasons[0]
    assert "+1.00" in decision.reasons[0]  # the mean of the second model, as published


def test_published_points_are_the_counts():
    """Each published difference is a count of 897 answers."""
    for _, _, gained, points, _, _ in PUBLISHED:
        assert round(100 * gained / 897, 2) == points


@pytest.mark.parametrize("qwen", list(itertools.product([(0.05, 0.01), (0.05, 0.06), (-0.05, 0.01)], repeat=2)))
@pytest.mark.parametrize("llama", list(itertools.product([(0.02, 0.2), (-0.01, 0.5), (-0.06, 0.001)], repeat=2)))
def test_truth_table_of_the_paper(qwen, llama):
    """All combinations of cells, against the text."""
    cells = [cell("Qwen-7B", str(i), *found) for i, found in enumerate(qwen)]
    cells += [cell("Llama-8B", str(i), *found) for i, found in enumerate(llama)]
    assert decide(PAPER, cells).branch == paper_branch(qwen, llama)


def test_truth_table_reaches_all_branches():
    """The table above is not all of one kind."""
    qwen, llama = [(0.05, 0.01)], [(0.02, 0.2)]
    assert paper_branch(qwen, llama) == "A"
    assert paper_branch(qwen, [(-0.02, 0.2)]) == "B"
    assert paper_branch(qwen, [(0.2, 0.2), (-0.06, 0.001)]) == "B"
    assert paper_branch([(0.05, 0.05)], llama) == "C"


def test_p_at_the_level_is_not_below_it():
    """The paper's threshold is strict."""
    cells = [cell("Qwen-7B", "64", 0.05, 0.05), cell("Llama-8B", "64", 0.1, 0.5)]
    assert decide(PAPER, cells).branch == "C"


def test_void_cell_that_matters_gives_no_branch():
    """The mean of the second model needs all its cells."""
    cells = [*published()[:3], cell("Llama-8B", "128", None, None, None, status="void")]
    decision = decide(PAPER, cells)
    assert decision.branch == "void"
    assert "Llama-8B/128 (void)" in decision.reasons[-1]


def test_void_cell_that_does_not_matter_does_not_stop_the_decision():
    """One gaining cell of the first model is enough, and without any there is nothing to ask of the second."""
    lost = cell("Qwen-7B", "64", None, None, None, status="incomplete")
    assert decide(PAPER, [lost, *published()[1:]]).branch == "A"
    no_gain = [cell("Qwen-7B", "64", 0.01, 0.6), cell("Llama-8B", "64", None, None, None, status="void")]
    assert decide(PAPER, no_gain).branch == "C"


def test_void_cell_of_the_first_model_alone_gives_no_branch():
    """It might have been the one that gains."""
    cells = [cell("Qwen-7B", "64", None, None, None, status="void"), cell("Llama-8B", "64", 0.1, 0.5)]
    assert decide(PAPER, cells).branch == "void"


X = {"where": {"model": "x"}}
POSITIVE = {**X, "effect": "positive"}


def ask(rule, *cells):
    """Return whether a rule holds: True, False, or None where the cells leave it open."""
    branch = decide([{"branch": "yes", "rule": rule}, {"branch": "no", "rule": "otherwise"}], cells).branch
    return {"yes": True, "no": False, "void": None}[branch]


UP, DOWN = cell("x", "1", 0.1, 0.01, True), cell("x", "2", -0.1, 0.01, True)
LOST = cell("x", "3", None, None, None, status="void")


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ({"any": POSITIVE}, [UP, DOWN], True),
        ({"any": POSITIVE}, [DOWN], False),
        ({"any": POSITIVE}, [DOWN, LOST], None),
        ({"any": POSITIVE}, [UP, LOST], True),
        ({"all": POSITIVE}, [UP, DOWN], False),
        ({"all": POSITIVE}, [UP], True),
        ({"all": POSITIVE}, [UP, LOST], None),
        ({"all": POSITIVE}, [DOWN, LOST], False),
        ({"none": POSITIVE}, [DOWN], True),
        ({"none": POSITIVE}, [UP, LOST], False),
        ({"none": POSITIVE}, [DOWN, LOST], None),
        ({"any": {**X, "effect": "negative"}}, [UP], False),
        ({"any": {**X, "p_below": 0.01}}, [UP], False),
        ({"any": {**X, "p_below": 0.011}}, [UP], True),
        ({"all": {**X, "significant": False}}, [UP], False),
        ({"all": {**X, "significant": True}}, [UP, DOWN], True),
        ({"any": {**X, "significant": True}}, [cell("x", "1", 0.1, 0.01, None)], False),
        ({"mean_effect": {**X, "above": 0}}, [UP, DOWN], False),
        ({"mean_effect": {**X, "below": 0.01}}, [UP, DOWN], True),
        ({"mean_effect": {**X, "above": 0}}, [UP, LOST], None),
        ({"not": {"any": POSITIVE}}, [UP], False),
        ({"not": {"any": POSITIVE}}, [LOST], None),
        ({"all_of": [{"any": POSITIVE}, {"mean_effect": {**X, "above": 0.0}}]}, [UP], True),
        ({"all_of": [{"all": POSITIVE}, {"mean_effect": {**X, "above": 0.0}}]}, [DOWN, LOST], False),
        ({"any_of": [{"any": POSITIVE}, {"mean_effect": {**X, "above": 0.0}}]}, [UP, LOST], True),
        ({"any_of": [{"any": POSITIVE}, {"mean_effect": {**X, "above": 0.0}}]}, [DOWN, LOST], None),
        ({"any": {"where": {"model": ["x", "y"], "budget": 1}, "effect": "positive"}}, [UP, DOWN], True),
        ({"any": {"where": {}, "effect": "positive"}}, [UP], True),
    ],
)
def test_every_rule(rule, cells, expected):
    """Each word of the language, with cells that have a result and with one that has none."""
    assert ask(rule, *cells) is expected


def test_branches_are_tried_in_order():
    """The first that holds is it; the reasons show those before."""
    rules = [
        {"branch": "one", "rule": {"any": {**X, "effect": "negative"}}},
        {"branch": "two", "rule": {"any": POSITIVE}},
        {"branch": "three", "rule": "otherwise"},
    ]
    decision = decide(rules, [UP])
    assert decision == Decision("two", decision.reasons)
    assert [reason.split(":")[0] for reason in decision.reasons] == ["one does not hold", "two holds"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("mine", "must be `paper` or a list"),
        ([], "must be `paper` or a list"),
        ({"rules": "paper"}, "must have roles"),
        ({"rules": "paper", "roles": {"qwen": "x"}}, "must have roles"),
        ([{"branch": "A"}], "must hold branch and rule"),
        ([{"branch": "A", "rule": {"any": POSITIVE}}], "must be `otherwise`"),
        ([{"branch": "A", "rule": "otherwise"}, {"branch": "B", "rule": "otherwise"}], "must not be `otherwise`"),
        ([{"branch": "void", "rule": "otherwise"}], "other than `void`"),
    ],
)
def test_malformed_branches_are_refused(rules, message):
    """Before anything is judged."""
    with pytest.raises(ProtocolError, match=message):
        branches_of(rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"some": POSITIVE}, "must be one of any, all"),
        ({"any": POSITIVE, "all": POSITIVE}, "mapping of one rule"),
        ({"any": {"effect": "positive"}}, "with `where`"),
        ({"any": X}, "must ask for"),
        ({"any": {**POSITIVE, "p": 1}}, r"any\.p is unknown"),
        ({"any": {**X, "effect": "up"}}, r"\.effect must be"),
        ({"any": {**X, "p_below": 0}}, r"\.p_below must be"),
        ({"any": {**X, "significant": 1}}, r"\.significant must be"),
        ({"any": {"where": {"seed": 1}, "effect": "positive"}}, r"where\.seed is unknown"),
        ({"mean_effect": X}, "one of above and below"),
        ({"mean_effect": {**X, "above": 0, "below": 1}}, "one of above and below"),
        ({"all_of": []}, "list of rules"),
        ({"not": {"all_of": [{"any": X}]}}, r"not\.all_of\[0\]\.any must ask"),
    ],
)
def test_malformed_rules_are_refused_with_their_place(rule, message):
    """The dotted place of each fault."""
    with pytest.raises(ProtocolError, match=message):
        branches_of([{"branch": "A", "rule": rule}, {"branch": "C", "rule": "otherwise"}])


def test_rules_must_look_at_registered_cells():
    """A misspelt model would make `none` hold for nothing."""
    with pytest.raises(ProtocolError, match="must pick a cell"):
        check_decision({"rules": "paper", "roles": {"qwen": "Qwen-7B", "llama": "lama"}}, published())


def test_paper_rules_with_two_contrasts_must_say_which():
    """Cells of another contrast are no evidence for this one."""
    cells = [*published(), cell("Qwen-7B", "64", 0.3, 0.001, contrast="other")]
    with pytest.raises(ProtocolError, match="must say which contrast"):
        decide(PAPER, cells)
    assert decide({**PAPER, "contrast": "alpha"}, cells).branch == "A"


def test_paper_rules_are_plain_data():
    """They can be written out in a registration."""
    assert decide(paper_rules("Qwen-7B", "Llama-8B"), published()).branch == "A"
