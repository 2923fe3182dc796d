"""The plan for people: two tables and the notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweeps.plan import ArmPlan, Plan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print a plan to a rich console, by default standard output."""
    from rich.console import Console
    from rich.markup import escape

    console = console or Console()
    # Lines are not broken at the console's width, so that they can be searched when the output is piped.
    for line in _head_lines(plan):
        console.print(escape(line), soft_wrap=True)
    console.print(_arm_table(plan.arms))
    for line in plan_notes(plan):
        console.print(escape(line), soft_wrap=True)


def _head_lines(plan: Plan) -> Iterator[str]:
    counts = " × ".join(f"{n} {axis[:-1] if n == 1 else axis}" for axis, n in plan.counts.items())
    yield f"{plan.study}: {counts} → {plan.n_cells:,} cells"
    if plan.n_cells_uncounted < plan.n_cells:
        yield (
            f"{plan.n_shards:,} shards: {plan.n_committed:,} committed, {plan.n_pending:,} pending; "
            f"at most {plan.max_new_tokens_pending:,} tokens to generate"
        )
    if plan.n_rows_taken:
        there = f"{plan.n_rows_taken:,} are there of the same cells with fewer problems"
        yield f"{plan.n_rows_to_generate:,} rows to generate, {there}"
    if plan.n_cells_uncounted:
        yield f"shards of {plan.n_cells_uncounted:,} cells are not counted: the data of their tasks is not here"
    if plan.rows_limit is not None:
        yield f"rows: auto: {plan.rows_limit.text}"
    for task in plan.tasks:
        problems = "" if task.n_problems is None else f"{task.n_problems:,} problems, "
        yield f"task {task.name} {task.split}: {problems}{task.state}"


def plan_notes(plan: Plan) -> Iterator[str]:
    """Yield what stands below the table: what is refused, what is excluded, and notes."""
    for refusal in plan.refused:
        at = "" if refusal.budget is None else f" at budget {refusal.budget}"
        yield f"refused: {refusal.mechanism}{at}: {refusal.reason}"
    for excluded in plan.excluded:
        why = f" ({excluded.why})" if excluded.why else ""
        yield f"excluded: {_rule_text(excluded.rule)}, {excluded.n_cells} cells{why}"
    for note in plan.notes:
        yield f"note: {note}"


def _rule_text(rule: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {' '.join(map(str, value.values())) if isinstance(value, dict) else value}"
        for key, value in rule.items()
    )


def _arm_table(arms: tuple[ArmPlan, ...]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title="predicted cache, tokens per (layer, KV head)", title_justify="left"
    )
    table.add_column("mechanism", overflow="fold")
    table.add_column("budget")
    for heading in ("steady mean", "peak", "cells", "shards", "committed"):
        table.add_column(heading, justify="right")
    for arm in arms:
        table.add_row(
            escape(arm.mechanism),
            arm.budget,
            "–" if arm.steady_mean_tokens is None else f"{arm.steady_mean_tokens:g}",
            "grows" if arm.peak_tokens is None else str(arm.peak_tokens),
            str(arm.n_cells),
            "?" if arm.n_shards is None else str(arm.n_shards),
            str(arm.n_committed),
        )
    return table
