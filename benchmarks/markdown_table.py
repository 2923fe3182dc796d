"""Print a results folder as one Markdown table: accuracy and realised mean cache of every arm, model by model.

python -m benchmarks.markdown_table results/catalogue
"""

from __future__ import annotations

import argparse

from designspace import open_results
from designspace.report import summarise
from designspace.report.summary import ArmSummary


def cell(arm: ArmSummary | None) -> str:
    """Return accuracy and mean cache of an arm; an unmatched one is in italics."""
    if arm is None or arm.accuracy is None:
        return " | "
    numbers = f"{100 * arm.accuracy:.1f}", f"{arm.mean_cache_tokens:.1f}"
    return " | ".join(f"*{number}*" if arm.comparison == "unmatched" else number for number in numbers)


def main() -> None:
    """Print the table, best average first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    arms = summarise(open_results(parser.parse_args().results).dataset.to_table())
    columns = list(dict.fromkeys((arm.model, arm.budget) for arm in arms if arm.budget_tokens is not None))
    found = {(arm.mechanism, arm.model, arm.budget): arm for arm in arms}
    rows: dict[str, float] = {}
    for arm in arms:
        rows[arm.mechanism] = rows.get(arm.mechanism, 0.0) + (arm.accuracy or 0.0)
    free = [name for name in rows if all(found[key].budget_tokens is None for key in found if key[0] == name)]
    print("| mechanism | " + " | ".join(f"{model}, {budget} | cache" for model, budget in columns) + " |")
    print("| --- |" + " --: | --: |" * len(columns))
    for name in sorted(rows, key=lambda name: (name not in free, -rows[name])):
        budgets = [(model, "none" if name in free else budget) for model, budget in columns]
        print(f"| `{name}` | " + " | ".join(cell(found.get((name, *key))) for key in budgets) + " |")


if __name__ == "__main__":
    main()
