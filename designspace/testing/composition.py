"""Every strategy with every other: what composes, what is refused and why, and a sample that covers all pairs.

`python -m designspace.testing.composition` runs a pairwise-covering sample on a bundled model with every invariant on;
with `--all` it runs the complete product, a part of which `--part 3/16` picks.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, cast

import numpy as np

from designspace.axes import AXES, Budget, Decoding, Geometry, Mechanism, Protect, Scoring, Strategy
from designspace.errors import DesignspaceError
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import kinds, strategy
from designspace.testing.conformance import check_mechanism
from designspace.testing.conformance.mechanism import prompts_for

# Parameters that let a strategy do its work within a few dozen tokens of the bundled models' language; any other strategy
# has its defaults.
SHORT: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("scoring", "vatp"): {"sinks": 2},
    ("scoring", "rpc"): {"recent": 8},
    ("scoring", "skip-kv"): {"ends": (";", "ok"), "alike": 0.5},
    ("scoring", "dms"): {"recent": 8},
    ("scoring", "fast-kvzip"): {"sinks": 2, "recent": 8},
    ("scoring", "kvzap"): {"recent": 8},
    ("cadence", "annealed"): {"horizon": 32},
    ("cadence", "growing"): {"period": 8, "window": 4},
    ("cadence", "schedule"): {"horizon": 32},
    ("cadence", "threshold"): {"tau": 0.02, "k": 3},
    ("cadence", "adaptive"): {"k_max": 8},
    ("representation", "kivi"): {"group": 16, "residual": 16},
    ("representation", "minikv"): {"residual": 16},
    ("representation", "kvtuner"): {"mean_bits": 4.0, "group": 16, "residual": 16},
    ("representation", "subspace"): {"rank": 8},
    ("representation", "turboquant"): {"skip": 0},
    ("representation", "quest"): {"page": 4, "attended": 24, "dense_layers": 1},
    ("decoding", "budget-forcing"): {"tag": "answer", "wait": "thus", "answer_cue": "answer", "max_thinking": 12},
    ("decoding", "chain-of-thought"): {"text": " so"},
    ("decoding", "refresh"): {"every": 6},
    ("decoding", "rollback"): {"boundary": "s", "threshold": 0.9},
    ("decoding", "self-consistency"): {"samples": 2, "matched": "integral"},
    ("decoding", "state-emit"): {"instruction": "", "marker": "so", "end": "="},
    ("decoding", "thought-aware"): {"tag": "so"},
}

# Of each axis a few kinds in whose company every other kind means something.
PARTNERS: Mapping[str, tuple[str, ...]] = {
    "scoring": ("full", "h2o", "snapkv", "triattention", "kvzap", "rpc"),
    "head_routing": ("uniform", "ada-kv"),
    "cadence": ("every-k", "never", "prefill-only", "threshold", "growing"),
    "representation": ("full", "turboquant", "nearest-merge"),
    "decoding": ("greedy", "sampling"),
}

PROTECT: tuple[Protect, ...] = ("none", "prompt")  # a factor beside the axes: whether the scoring may evict the prompt
N_NEW_TOKENS = 24

Combination = tuple[Strategy, ...]


@dataclass(frozen=True)
class Product:
    """The cross product of some strategies, as indices into `strategies[axis]`.

    legal: [n,6] int, one row per combination that is declared without a refusal, its last column an index into `PROTECT`.
    refused: how many combinations each reason turned down.
    """

    strategies: Mapping[str, Sequence[Strategy]]
    legal: np.ndarray
    refused: Counter[str]

    @property
    def n_combinations(self) -> int:
        """How many combinations there are, refused ones included."""
        return len(self.legal) + self.refused.total()

    def combination(self, indices: Sequence[int]) -> Combination:
        """Return the strategies of one row of `legal`."""
        chosen = {axis: self.strategies[axis][i] for axis, i in zip(AXES, indices, strict=False)}
        chosen["scoring"] = protecting(cast(Scoring, chosen["scoring"]), PROTECT[indices[-1]])
        return tuple(chosen.values())


def registered(overrides: Mapping[tuple[str, str], Mapping[str, Any]] = SHORT) -> dict[str, list[Strategy]]:
    """Return one strategy of every registered kind, by axis; a decoding around a chooser is given one that samples."""
    chooser = cast(Decoding, strategy("decoding", "sampling")())
    by_axis = {axis: [strategy(axis, kind)(**overrides.get((axis, kind), {})) for kind in kinds(axis)] for axis in AXES}
    by_axis["decoding"] = [cast(Decoding, decoding).with_default_chooser(chooser) for decoding in by_axis["decoding"]]
    return by_axis


def protecting(scoring: Scoring, protect: Protect) -> Scoring:
    """Return a scoring that may, or may not, evict the prompt."""
    return scoring if scoring.protect == protect else replace(scoring, protect=protect)


def budget_for(mechanism: Mechanism, tokens: int, *, divided: bool = False) -> Budget | None:
    """Return a budget of this many tokens in the reading that the mechanism's cadence has: a mean, or a nominal one.

    A protected prompt comes on top. divided: whether the prompt and the trace have slots of their own.
    """
    if not mechanism.budget_applies:
        return None
    if mechanism.scoring.protects_prompt:
        tokens += max(prompts_for(mechanism))
    return Budget(tokens, "mean" if mechanism.cadence.bounded else "nominal", prompt=tokens // 2 if divided else 0)


def declare(
    strategies: Mapping[str, Sequence[Strategy]],
    geometry: Geometry,
    tokens: int,
    protect: Sequence[Protect] = PROTECT,
    *,
    divided: bool = False,
    only: Iterable[Sequence[int]] | None = None,
) -> Product:
    """Declare combinations at a budget on a model's geometry.

    protect: the first entries of `PROTECT`. divided: whether the budget is in two parts. only: combinations as indices, the
    last one into `protect`; None takes all.
    """
    legal: list[tuple[int, ...]] = []
    refused: Counter[str] = Counter()
    scorings = [[protecting(cast(Scoring, one), kept) for kept in protect] for one in strategies["scoring"]]
    everything = product(*(range(len(strategies[axis])) for axis in AXES), range(len(protect)))
    for indices in everything if only is None else map(tuple, only):
        chosen: dict[str, Any] = {axis: strategies[axis][i] for axis, i in zip(AXES, indices, strict=False)}
        chosen["scoring"] = scorings[indices[AXES.index("scoring")]][indices[-1]]
        try:
            mechanism = Mechanism(name="composed", **chosen)
            reasons = mechanism.geometry_errors(geometry)
            longest = max(prompts_for(mechanism))
            mechanism.bind(budget_for(mechanism, tokens, divided=divided), geometry, longest_prompt=longest)
        except DesignspaceError as error:
            reasons = [str(error).splitlines()[0]]
        if reasons:
            refused[reasons[0].removeprefix("mechanism 'composed': ")] += 1
        else:
            legal.append(indices)
    return Product(strategies, np.array(legal, dtype=np.int64).reshape(-1, len(AXES) + 1), refused)


def candidates(strategies: Mapping[str, Sequence[Strategy]], n_drawn: int = 60_000) -> list[tuple[int, ...]]:
    """Return combinations among which every pair occurs that can be legal, as indices, the last one into `PROTECT`.

    They are far fewer than the product has: all those in which all but two strategies are `PARTNERS`, so that no pair is
    missing, and as many drawn ones, so that a sample needs few rows. The slow suite holds them against the product.
    """
    every = {axis: range(len(strategies[axis])) for axis in AXES}
    few = {axis: [i for i, s in enumerate(strategies[axis]) if s.kind in PARTNERS[axis]] for axis in AXES}
    found: set[tuple[int, ...]] = set()
    for free in combinations(AXES, 2):
        found.update(product(*(every[axis] if axis in free else few[axis] for axis in AXES), range(len(PROTECT))))
    numbers = np.random.default_rng(0)
    sizes = [*(len(strategies[axis]) for axis in AXES), len(PROTECT)]
    found.update(zip(*(numbers.integers(0, size, n_drawn).tolist() for size in sizes), strict=True))
    return sorted(found)


def pairwise_sample(declared: Product) -> np.ndarray:
    """Return rows of `declared.legal` in which every pair of strategies of different axes that can be legal occurs.

    Whether the prompt is protected counts as an axis, and where a pair may be covered both ways, it is so by turns.

    Greedy: each row is one that covers most pairs not covered yet, the first of them in the order of the product.
    """
    items = _numbered(declared)
    pairs = list(combinations(range(items.shape[1]), 2))
    n_items = sum(map(len, declared.strategies.values())) + len(PROTECT)
    codes = np.stack([items[:, a] * n_items + items[:, b] for a, b in pairs], axis=1)  # [n,15]
    return declared.legal[_covering(codes, declared.legal[:, -1])]


def single_sample(declared: Product) -> np.ndarray:
    """Return rows of `declared.legal`, chosen in the same way, in which every strategy that can be legal occurs."""
    return declared.legal[_covering(_numbered(declared))]


def _numbered(declared: Product) -> np.ndarray:
    """Return `declared.legal` with the strategies numbered through all axes, [n,6]."""
    return declared.legal + np.cumsum([0, *(len(declared.strategies[axis]) for axis in AXES)])


def _covering(codes: np.ndarray, protect: np.ndarray | None = None) -> list[int]:
    """Return rows of codes [n,k], each the first with most codes that no earlier one has, until all are had.

    protect: [n], 0 or 1; of rows that have as many, one of either is taken by turns.
    """
    uncovered = np.zeros(codes.max(initial=-1) + 1, dtype=bool)
    uncovered[codes] = True
    chosen: list[int] = []
    while uncovered.any():
        gain = 2 * uncovered[codes].sum(axis=1)
        if protect is not None:
            gain += protect == len(chosen) % len(PROTECT)
        chosen.append(int(gain.argmax()))
        uncovered[codes[chosen[-1]]] = False
    return chosen


def composed(parts: Combination) -> Mechanism:
    """Return the mechanism of one strategy per axis, named after their kinds."""
    chosen: dict[str, Any] = dict(zip(AXES, parts, strict=True))
    kept = " + prompt kept" if chosen["scoring"].protects_prompt else ""
    return Mechanism(name=" + ".join(part.kind for part in parts) + kept, **chosen)


def run(
    declared: Product, rows: np.ndarray, spec: ModelSpec, tokens: int, *, divided: bool = False
) -> Iterator[tuple[str, str | None]]:
    """Run combinations with every invariant on; yield each one's name, and what broke or None."""
    loaded = load_model(spec)
    artefacts: dict[str, Any] = {}
    for indices in rows:
        mechanism = composed(declared.combination(indices))
        try:
            for artefact in mechanism.needs().calibrations:
                if artefact not in artefacts:
                    artefacts[artefact] = load_artefact(spec, artefact)
            # A budget with room for the longest prompt is reached by texts that are longer by as much.
            n_new = N_NEW_TOKENS + (max(prompts_for(mechanism)) if mechanism.scoring.protects_prompt else 0)
            budget = budget_for(mechanism, tokens, divided=divided)
            check_mechanism(mechanism, loaded, budget, artefacts=artefacts, n_new_tokens=n_new)
        except Exception as error:  # a broken combination must not hide the others
            yield mechanism.name, f"{type(error).__name__}: {error}"
        else:
            yield mechanism.name, None


def main() -> int:
    """Declare the product, run a sample or all of it, print the counts; exit code 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket-llama", help="a bundled model")
    parser.add_argument("--tokens", type=int, default=36, help="the budget")
    parser.add_argument("--all", action="store_true", help="run every legal combination")
    parser.add_argument("--part", default="1/1", help="run one part of them, e.g. 3/16")
    options = parser.parse_args()
    spec = ModelSpec.bundled(options.model)
    declared = declare(registered(), load_model(spec).geometry, options.tokens)
    print(f"{declared.n_combinations} combinations: {len(declared.legal)} run, {declared.refused.total()} are refused")
    kinds_of_reason: Counter[str] = Counter()
    for reason, n in declared.refused.items():
        kinds_of_reason[re.sub(r"'[^']*'", "'…'", re.sub(r"\d+", "N", reason))] += n
    for reason, n in kinds_of_reason.most_common():
        print(f"  {n:>7} {reason}")
    part, parts = (int(number) for number in options.part.split("/"))
    rows = (declared.legal if options.all else pairwise_sample(declared))[part - 1 :: parts]
    started_s, n_broken = time.monotonic(), 0
    for name, broken in run(declared, rows, spec, options.tokens):
        if broken is not None:
            n_broken += 1
            print(f"broken: {name}: {broken}", flush=True)
    print(f"{len(rows)} combinations run in {time.monotonic() - started_s:.0f} s, {n_broken} broken")
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
