"""Print a results folder with `protect` as a factor as Markdown: each scoring without and with the prompt kept.

python -m benchmarks.protection_table results/protect

Arms are matched by their names, `<scoring>+none` and `<scoring>+prompt`. Of an arm whose prompt may be evicted, the share of
its tokens that a head still holds at the end of a text stands in brackets.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from designspace import open_results
from designspace.report import summarise
from designspace.report.summary import ArmSummary


def protection_table(arms: Sequence[ArmSummary]) -> Iterator[str]:
    """Yield the lines, the scoring with the best accuracy of its evictable prompts first.

    Raises:
        KeyError: an arm has no counterpart.
    """
    found = {(arm.mechanism, arm.model, arm.budget): arm for arm in arms if arm.budget_tokens is not None}
    columns = list(dict.fromkeys((model, budget) for _, model, budget in found))
    names = sorted({name.removesuffix("+none") for name, *_ in found if name.endswith("+none")})
    heads = [f"{model}, {budget}: evictable | kept" for model, budget in columns]
    yield f"| scoring | {' | '.join(heads)} |"
    yield "| --- |" + " --: | --: |" * len(columns)
    for name in sorted(names, key=lambda n: -sum(found[f"{n}+none", *c].accuracy or 0 for c in columns)):
        cells = [_cells(found[f"{name}+none", *column], found[f"{name}+prompt", *column]) for column in columns]
        yield f"| `{name}` | {' | '.join(cells)} |"


def _cells(free: ArmSummary, kept: ArmSummary) -> str:
    survival = "" if free.prompt_survival_mean is None else f" ({100 * free.prompt_survival_mean:.0f})"
    return f"{_accuracy(free)}{survival} | {_accuracy(kept)}"


def _accuracy(arm: ArmSummary) -> str:
    """Return an accuracy in percent, in italics where the arm's mean cache is not that of the others."""
    number = "–" if arm.accuracy is None else f"{100 * arm.accuracy:.1f}"
    return f"*{number}*" if arm.comparison == "unmatched" else number


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    arms = summarise(open_results(parser.parse_args().results).dataset.to_table())
    print("\n".join(protection_table(arms)))


if __name__ == "__main__":
    main()
