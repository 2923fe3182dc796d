"""`{prompt: …, trace: …}` in a sweep: what it means, its identity, how rules name it, and mistakes with their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from designspace.axes import Budget
from designspace.errors import DeclarationError
from sweeps.expand import expand
from sweeps.spec import Sweep, load_sweep
from tests.sweeps.conftest import declaration

SweepOf = Callable[..., Sweep]
DIVIDED = {"prompt": 40, "trace": 56}


def test_it_is_the_sum_in_two_parts(sweep_of: SweepOf) -> None:
    """In any reading in tokens."""
    sweep = sweep_of(budgets=[DIVIDED, {**DIVIDED, "of": "nominal"}, 96])
    assert sweep.budgets == (Budget(96, prompt=40), Budget(96, "nominal", 40), Budget(96))
    assert next(str(budget) for budget in sweep.budgets) == "96 (40 prompt + 56 trace)"


def test_other_budgets_keep_their_ids(sweep_of: SweepOf) -> None:
    """The part is in the identity of cells that have it, and in no other."""
    plain, divided, other = (
        {cell.cell_id for cell in expand(sweep_of(mechanisms=["snapkv"], budgets=[budget])) if cell.budget is not None}
        for budget in (96, DIVIDED, {"prompt": 41, "trace": 55})
    )
    assert len(plain | divided | other) == 3


def test_rules_name_budgets_as_they_are_declared(sweep_of: SweepOf) -> None:
    """`tokens` those that are whole, `prompt` and `trace` those in parts, `of` both."""
    budgets = [96, DIVIDED, {"prompt": 30, "trace": 66}]

    def left(rule: object) -> set[str]:
        sweep = sweep_of(mechanisms=["snapkv"], budgets=budgets, exclude=[{"budget": rule}])
        return {str(cell.budget) for cell in expand(sweep)}

    assert left(96) == left({"tokens": 96}) == {"96 (40 prompt + 56 trace)", "96 (30 prompt + 66 trace)"}
    assert left({"prompt": 40}) == left(DIVIDED) == {"96", "96 (30 prompt + 66 trace)"}


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"prompt": 40}, r"6:1\d: budgets\[0\]: separate budgets need both prompt and trace"),
        ({"prompt": 40, "trace": 0}, r"6:\d+: budgets\[0\]\.trace: must be at least 1, got 0"),
        ({"promt": 40, "trace": 9}, r"6:\d+: budgets\[0\]\.promt: unknown field \(did you mean 'prompt'\?\)"),
        (
            {**DIVIDED, "tokens": 96},
            r"6:\d+: budgets\[0\]: a budget needs either tokens, or prompt and trace, or bytes",
        ),
        ({**DIVIDED, "bytes_per_token_full": 96}, r"6:\d+: budgets\[0\]: a budget needs either tokens, or prompt and"),
        (
            {"prompt": 90, "trace": 6},
            r"8:\d+: mechanisms\[0\]: mechanism 'snapkv' at budget 96 \(90 prompt \+ 6 trace\): .*tokens too few",
        ),
    ],
)
def test_mistakes_are_named_with_their_places(tmp_path: Path, budget: object, message: str) -> None:
    """File, line and column."""
    sections = declaration(budgets=None, mechanisms=None)
    tail = {name: sections.pop(name) for name in ("seeds", "generation") if name in sections}
    lines = [
        yaml.safe_dump({name: value}, default_flow_style=None, width=200).strip()
        for name, value in (
            {k: sections[k] for k in ("schema", "study", "models")} | {"tasks": sections["tasks"]}
        ).items()
    ]
    lines = ["schema: 1", "study: s", "models: [pocket-llama]", "tasks:", *[
        "  - {name: chain-arithmetic, split: dev, problems: 4}",
        f"budgets: [{yaml.safe_dump(budget, default_flow_style=True).strip()}]",
        "mechanisms:", "  - snapkv",
    ]]  # fmt: skip
    lines += [
        yaml.safe_dump({name: value}, default_flow_style=True, width=200).strip()[1:-1] for name, value in tail.items()
    ]
    path = tmp_path / "s.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=message):
        load_sweep(path)
