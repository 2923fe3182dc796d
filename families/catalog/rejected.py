"""The seven rejected mechanisms of the source paper with their sub-attempts, each on its baseline.

`choices` names the points that the paper does not state. All other parameters are those of `triattention`.
"""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.cadence.prefill_only import PrefillOnly
from families.cadence.step_schedule import StepSchedule
from families.catalog.system import PAPER, system
from families.decoding.state_emit import StateEmit
from families.head_routing.static_route import StaticRoute
from families.representation.span_mean import SpanMean
from families.representation.subspace import Subspace
from families.scoring.q_stats import QStats
from families.scoring.triattention import TriAttention
from families.scoring.variant_b import VariantB

SYSTEMS = (
    system(
        "subspace",
        "rejected 1: values in a per-head PCA basis of rank 32",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=Subspace(),
        choices=(
            "keys stay whole, as the stated saving implies; only a budget in bytes spends that saving on more tokens",
        ),
    ),
    system(
        "syn-mem-prefill",
        "rejected 2a: the prompt as span means",
        PAPER,
        TriAttention(),
        PrefillOnly(),
        representation=SpanMean(synthetic=1.0),
    ),
    system(
        "syn-mem-bounded",
        "rejected 2b: the whole text as span means, formed again at every event",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(synthetic=1.0),
        choices=(
            "the paper does not describe its bounded re-gate; here span means follow the cadence of the baseline",
        ),
    ),
    system(
        "sel-hybrid-static",
        "rejected 2c: half exact tokens, half span means",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(),
        choices=("the paper does not state the ratio (synthetic); keys are averaged after rotation (keys)",),
    ),
    system(
        "sel-hybrid-dynamic",
        "rejected 2d: exact tokens for half of the score, span means for the rest",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(mode="dynamic"),
        choices=(
            "the paper does not state the rule; here the fewest exact tokens that hold half of the scaled score (mass_share)",
        ),
    ),
    system(
        "static-route",
        "rejected 3: each head keeps evenly spaced or attended tokens, by calibration",
        PAPER,
        TriAttention(scope="layer-head"),
        EveryK(),
        StaticRoute(),
        choices=(
            "the paper does not state the criterion; here the rule that keeps more future attention on calibration texts",
            "one ranking for each layer and head, as rules differ by head; the baseline has one for all (scoring scope)",
        ),
    ),
    system(
        "step-down",
        "rejected 4a: more cache in early rounds",
        PAPER,
        TriAttention(),
        StepSchedule(direction="step-down"),
        choices=("the paper does not state sizes and switch round (ratio, switch, horizon)",),
    ),
    system(
        "step-up",
        "rejected 4b: more cache in late rounds",
        PAPER,
        TriAttention(),
        StepSchedule(direction="step-up"),
        choices=("the paper does not state sizes and switch round (ratio, switch, horizon)",),
    ),
    system(
        "state-emit",
        "rejected 5: the model is asked for state lines, which are never evicted",
        PAPER,
        TriAttention(),
        EveryK(),
        decoding=StateEmit(),
        choices=("the paper states neither the prompt nor the rule for pinning (instruction, marker, most)",),
    ),
    system(
        "variant-b",
        "rejected 6: TriAttention plus a cosine to the task's mean value",
        PAPER,
        VariantB(),
        EveryK(),
        choices=("the direction is the mean over prompt tokens; the paper does not say over which (over)",),
    ),
    system(
        "q-stats", "rejected 7: TriAttention with statistics of the model's own reasoning", PAPER, QStats(), EveryK()
    ),
)
