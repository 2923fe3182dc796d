"""Print a results folder as Markdown: accuracy and realised mean cache of every arm, model by model.

python -m benchmarks.markdown_table results/catalogue

Arms without a budget come in a table of their own, with the bytes they hold and read as shares of the full cache's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from designspace import open_results
from designspace.report import summarise
from designspace.report.summary import ArmSummary

Key = tuple[str, str, str]  # mechanism, model, budget


def cell(arm: ArmSummary | None) -> str:
    """Return accuracy and mean cache of an arm; an unmatched one is in italics."""
    if arm is None or arm.accuracy is None:
        return " | "
    numbers = f"{100 * arm.accuracy:.1f}", f"{arm.mean_cache_tokens:.1f}"
    return " | ".join(f"*{number}*" if arm.comparison == "unmatched" else number for number in numbers)


def free_cell(arm: ArmSummary, full: ArmSummary | None) -> str:
    """Return accuracy, tokens, and bytes held and read as percentages of the full cache's."""
    shares = [
        "" if full is None else f"{100 * getattr(arm, name) / getattr(full, name):.0f}"
        for name in ("mean_cache_bytes", "mean_read_bytes")
    ]
    return " | ".join([f"{100 * (arm.accuracy or 0):.1f}", f"{arm.mean_cache_tokens:.1f}", *shares])


def budget_table(arms: Sequence[ArmSummary], found: Mapping[Key, ArmSummary]) -> list[str]:
    """Return the lines of the table of arms with budgets, best average first."""
    columns = list(dict.fromkeys((arm.model, arm.budget) for arm in arms))
    lines = ["| mechanism | " + " | ".join(f"{model}, {budget} | cache" for model, budget in columns) + " |"]
    lines.append("| --- |" + " --: | --: |" * len(columns))
    for name in by_accuracy(arms):
        lines.append(f"| `{name}` | " + " | ".join(cell(found.get((name, *key))) for key in columns) + " |")
    return lines


def free_table(arms: Sequence[ArmSummary], found: Mapping[Key, ArmSummary]) -> list[str]:
    """Return the lines of the table of arms without budgets, best average first."""
    models = list(dict.fromkeys(arm.model for arm in arms))
    lines = ["| mechanism | " + " | ".join(f"{model} | cache | % held | % read" for model in models) + " |"]
    lines.append("| --- |" + " --: | --: | --: | --: |" * len(models))
    for name in by_accuracy(arms):
        cells = [free_cell(found[name, model, "none"], found.get(("full", model, "none"))) for model in models]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def by_accuracy(arms: Sequence[ArmSummary]) -> list[str]:
    """Return mechanisms in falling order of their accuracies' sum."""
    totals: dict[str, float] = {}
    for arm in arms:
        totals[arm.mechanism] = totals.get(arm.mechanism, 0.0) + (arm.accuracy or 0.0)
    return sorted(totals, key=lambda name: -totals[name])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    arms = summarise(open_results(parser.parse_args().results).dataset.to_table())
    found = {(arm.mechanism, arm.model, arm.budget): arm for arm in arms}
    free = [arm for arm in arms if arm.budget_tokens is None]
    if free:
        print("\n".join([*free_table(free, found), ""]))
    print("\n".join(budget_table([arm for arm in arms if arm.budget_tokens is not None], found)))


if __name__ == "__main__":
    main()
