"""Print how well fidelity to the full cache ranks arms by their accuracy, over arms that were run both ways, as Markdown.

designspace run sweeps/fidelity.yaml; python -m benchmarks.fidelity_predicts results/fidelity

Arms are matched by their names, `<arm>+greedy` and `<arm>+teacher-forced`. Printed for each model and budget: Kendall's tau-b
between less loss over full, or more agreement, and accuracy, with a 95 % interval from resampled problems; and how many pairs
of arms each measure tells apart on the same problems (sign flips, two-sided p below 5 %, uncorrected).
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from designspace import __version__, open_results
from designspace.statistics.permutation import sign_flip_p_value

FREE, FORCED = "+greedy", "+teacher-forced"
RESAMPLES, SEED = 1_000, 20260514
_FLIPS = 2_000
_COLUMNS = (
    "model",
    "budget",
    "mechanism",
    "problem_id",
    "correct",
    "forced_of",
    "forced_loss_over_full",
    "forced_agreement",
)

FloatArray = NDArray[np.float64]
Scores = dict[str, dict[str, float]]  # arm -> problem -> score


@dataclass(frozen=True)
class BothWays:
    """The arms of one model and budget; all arrays are [n_arms, n_problems], and larger is better in each."""

    model: str
    budget: str
    arms: tuple[str, ...]
    accuracy: FloatArray
    less_loss: FloatArray
    agreement: FloatArray


def both_ways(table: pa.Table) -> list[BothWays]:
    """Return the arms that were run both ways, on the problems that all of them have; places with fewer than two are left out.

    Raises:
        ValueError: a text that an arm wrote is not graded.
    """
    found: dict[tuple[str, str], dict[str, Scores]] = {}
    for row in table.select(_COLUMNS).to_pylist():
        scores = found.setdefault((row["model"], row["budget"]), {"accuracy": {}, "less loss": {}, "agreement": {}})
        _note(scores, row)
    places = [_matrices(*key, scores) for key, scores in sorted(found.items()) if key[1] != "none"]
    return [place for place in places if len(place.arms) > 1]


def _note(scores: Mapping[str, Scores], row: Mapping[str, Any]) -> None:
    name, problem = row["mechanism"], row["problem_id"]
    if row["forced_of"] is not None and name.endswith(FORCED):
        arm = name.removesuffix(FORCED)
        scores["less loss"].setdefault(arm, {})[problem] = -row["forced_loss_over_full"]
        scores["agreement"].setdefault(arm, {})[problem] = row["forced_agreement"]
    elif row["forced_of"] is None and name.endswith(FREE):
        if row["correct"] is None:
            raise ValueError(f"a text of {name} is not graded: run the sweep to its end")
        scores["accuracy"].setdefault(name.removesuffix(FREE), {})[problem] = float(row["correct"])


def _matrices(model: str, budget: str, scores: Mapping[str, Scores]) -> BothWays:
    arms = tuple(sorted(set.intersection(*(set(by_arm) for by_arm in scores.values()))))
    sets = [set(by_arm[arm]) for by_arm in scores.values() for arm in arms]
    problems = sorted(set.intersection(*sets)) if sets else []
    arrays = [np.array([[by_arm[arm][p] for p in problems] for arm in arms]) for by_arm in scores.values()]
    return BothWays(model, budget, arms, *arrays)


def tau(measure: FloatArray, accuracy: FloatArray) -> float:
    """Return Kendall's tau-b between the means of two measures over problems, NaN where one is the same for all arms."""
    from scipy.stats import kendalltau

    return float(kendalltau(measure.mean(axis=1), accuracy.mean(axis=1)).statistic)


def tau_interval(measure: FloatArray, accuracy: FloatArray) -> tuple[float, float]:
    """Return the 95 % percentile interval of `tau` over resampled problems, the same ones for both measures."""
    draws = np.random.default_rng(SEED).integers(0, measure.shape[1], size=(RESAMPLES, measure.shape[1]))
    taus = [tau(measure[:, draw], accuracy[:, draw]) for draw in draws]
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    return float(low), float(high)


def told_apart(measure: FloatArray) -> int:
    """Return how many pairs of arms differ on the same problems by sign flips with p below 5 %."""
    pairs = combinations(range(len(measure)), 2)
    return sum(sign_flip_p_value(measure[a] - measure[b], resamples=_FLIPS, seed=SEED)[0] < 0.05 for a, b in pairs)


def lines(places: list[BothWays]) -> Iterator[str]:
    """Yield the table of rank correlations, the one of pairs told apart, and the arms themselves."""
    yield "| model | budget | arms | problems | tau, loss over full | tau, agreement |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for place in places:
        taus = [_tau_text(measure, place.accuracy) for measure in (place.less_loss, place.agreement)]
        yield f"| {place.model} | {place.budget} | {' | '.join(map(str, place.accuracy.shape))} | {' | '.join(taus)} |"
    yield ""
    yield "| model | budget | pairs of arms | told apart by accuracy | by loss over full | by agreement |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for place in places:
        n_pairs = len(place.arms) * (len(place.arms) - 1) // 2
        counts = [told_apart(measure) for measure in (place.accuracy, place.less_loss, place.agreement)]
        yield f"| {place.model} | {place.budget} | {n_pairs} | {' | '.join(map(str, counts))} |"
    yield ""
    yield "| model | budget | arm | accuracy, % | loss over full, nats per token | agreement, % |"
    yield "| --- | --: | --- | --: | --: | --: |"
    for place in places:
        for arm in np.argsort(-place.less_loss.mean(axis=1)):
            figures = 100 * place.accuracy[arm].mean(), -place.less_loss[arm].mean(), 100 * place.agreement[arm].mean()
            shown = " | ".join(f"{figure:.{digits}f}" for figure, digits in zip(figures, (1, 4, 2), strict=True))
            yield f"| {place.model} | {place.budget} | `{place.arms[arm]}` | {shown} |"


def _tau_text(measure: FloatArray, accuracy: FloatArray) -> str:
    low, high = tau_interval(measure, accuracy)
    return f"{tau(measure, accuracy):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the tables, and what made them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    table = open_results(parser.parse_args().results).dataset.to_table()
    print("\n".join(lines(both_ways(table))))
    codes = ", ".join(sorted(set(table["code_id"].to_pylist())))
    engines = ", ".join(sorted(set(table["engine_version"].to_pylist())))
    print(f"\ndesignspace {__version__}, code of the texts {codes}, engine version {engines}, {platform.machine()}")


if __name__ == "__main__":
    main()
