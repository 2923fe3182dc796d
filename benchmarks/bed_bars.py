"""Say whether the test bed ranks scores, and whether it ranks them as a real model does.

python -m benchmarks.bed_bars results/trace-recall --reference outcomes.csv

Reads the results of `sweeps/trace-recall.yaml` and, for the last bar, the outcomes per problem of a real model: a CSV file with
the columns mechanism, budget, prompt, problem_id and correct. Four bars:

* the newest tokens and the prompt lose at least 40 points against the full cache, at the smaller budget, on each model;
* an oracle that keeps what later queries attend to loses at most 5;
* the ten best scores are spread over at least 30 points, a score being what a scoring computes, with the best of its arms;
* Kendall's tau-b between the arms' accuracies here and there is at least 0.6.

Accuracies of an arm are means over models and budgets there are; the intervals are of 2,000 bootstrap samples of the problems,
drawn on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from designspace import open_results
from designspace.query import Results

# Arms here, and what the same arms are called in the outcomes of the real model.
SAME_ARMS = {
    "random": "random",
    "streaming-llm": "streaming-llm",
    "h2o-window-16": "h2o",
    "snapkv-window-8": "snapkv",
    "r-kv": "r-kv",
    "triattention": "triattention",
    "alpha": "alpha",
    "triattention-layer-head": "tri-lh",
    "alpha-layer-head": "alpha-lh",
}
NO_SCORES = frozenset({"full", "oracle", "random"})  # kinds of scoring that score nothing, or what nobody can know
N_SAMPLES = 2000
PAIRED = ["model", "budget"]


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes as a table: one column per arm and place, one row per problem."""
    return rows.pivot_table(index="problem_id", columns=["mechanism", *PAIRED], values="correct", aggfunc="mean")


def real_rows(path: Path) -> pd.DataFrame:
    """Return the outcomes of the real model with evictable prompts, in the columns that ours have."""
    rows = pd.read_csv(path, dtype={"budget": str})
    rows = rows[(rows["prompt"] == "evictable") & rows["budget"].isin(["96", "160"])]
    return rows.assign(model="real", correct=rows["correct"].astype(float))


def arm_means(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Return the mean accuracy of each arm over its places, each place counting the same."""
    return np.array([table[arm].mean(axis=0).mean() for arm in arms])


def agreement(
    ours: pd.DataFrame, real: pd.DataFrame, seed: int = 0, n_samples: int = N_SAMPLES
) -> tuple[float, float, float]:
    """Return tau-b between the two orders of the arms, and its 95 % bootstrap interval over problems."""
    here, there = list(SAME_ARMS), list(SAME_ARMS.values())
    rng = np.random.default_rng(seed)

    def drawn(table: pd.DataFrame) -> pd.DataFrame:
        return table.iloc[rng.integers(len(table), size=len(table))]

    tau = kendalltau(arm_means(ours, here), arm_means(real, there)).statistic
    samples = [
        kendalltau(arm_means(drawn(ours), here), arm_means(drawn(real), there)).statistic for _ in range(n_samples)
    ]
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return float(tau), float(low), float(high)


def scores_of(results: Results) -> dict[str, str]:
    """Return what scores the tokens in each arm: the kind of its scoring."""
    kinds = {cell: identity["mechanism"]["scoring"]["kind"] for cell, identity in results.cells().items()}
    arms = results.to_pandas(["mechanism", "cell_id"]).drop_duplicates()
    return {arm: kinds[cell] for arm, cell in zip(arms["mechanism"], arms["cell_id"], strict=True)}


def best_scores(percent: pd.Series, scores: Mapping[str, str]) -> pd.Series:
    """Return the ten best scores, each with the best of its arms; random draws, and what knows the future, are none."""
    of_arms = percent[[scores[arm] not in NO_SCORES for arm in percent.index]]
    return of_arms.groupby(scores).max().nlargest(10)


def bars(table: pd.DataFrame, scores: Mapping[str, str]) -> list[str]:
    """Return a line for each of the first three bars and each model, at the smaller budget.

    scores: what scores the tokens in each arm.
    """
    lines = []
    for model in table.columns.get_level_values("model").unique():
        percent = 100 * table.xs(model, level="model", axis=1).mean()
        smaller = _smaller(percent)
        full, at = percent["full"].iloc[0], percent.xs(smaller, level="budget")
        lines += [
            f"{model}, {smaller}: full cache {full:.1f} %",
            _bar("the prompt and the newest tokens lose", full - at["prefix-sliding"], 40, at_least=True),
            _bar("the oracle loses", full - at["oracle"], 5, at_least=False),
            _spread(at, scores),
        ]
    percent = 100 * table.mean()
    smaller = _smaller(percent)
    means = percent.xs(smaller, level="budget").groupby("mechanism").mean()
    return [*lines, f"mean of the models, {smaller}:", _spread(means, scores)]


def _smaller(percent: pd.Series) -> str:
    return str(min((b for b in percent.index.get_level_values("budget") if b.isdigit()), key=int))


def _spread(percent: pd.Series, scores: Mapping[str, str]) -> str:
    best, n_scores = best_scores(percent, scores), len(set(scores.values()) - NO_SCORES)
    what = f"the ten best scores of {n_scores} ({best.index[0]} to {best.index[-1]}) are spread over"
    return _bar(what, best.max() - best.min(), 30, at_least=True)


def _bar(what: str, points: float, bar: float, at_least: bool) -> str:
    holds = points >= bar if at_least else points <= bar
    word = "least" if at_least else "most"
    return f"  {what} {points:.1f} points (bar: at {word} {bar:.0f}): {'holds' if holds else 'MISSED'}"


def main() -> None:
    """Print the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--reference", type=Path, help="outcomes per problem of a real model (CSV)")
    arguments = parser.parse_args()
    columns = ["mechanism", "model", "budget", "problem_id", "correct"]
    results = open_results(arguments.results)
    table = outcomes(results.to_pandas(columns).astype({"correct": float, "budget": str}))
    print("\n".join(bars(table, scores_of(results))))
    if arguments.reference is not None:
        real = outcomes(real_rows(arguments.reference))
        for arm, name in SAME_ARMS.items():
            print(
                f"  {arm:26} {100 * arm_means(table, [arm])[0]:5.1f} %   real model {100 * arm_means(real, [name])[0]:5.1f} %"
            )
        tau, low, high = agreement(table, real)
        holds = "holds" if tau >= 0.6 else "MISSED"
        print(
            f"Kendall's tau-b over {len(SAME_ARMS)} arms: {tau:.2f} ({low:.2f} to {high:.2f}; bar: at least 0.60): {holds}"
        )


if __name__ == "__main__":
    main()
