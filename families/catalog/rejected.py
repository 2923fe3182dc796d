"""The seven rejected mechanisms of the source paper with their sub-attempts, each on its baseline.

What the paper does not state is named; parameters are those of `triattention` otherwise.
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
        choices=("use a budget in bytes, so that the saving is spent on more slots",),
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
        "rejected 2b: span means throughout, re-cut in blocks",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(synthetic=1.0),
        choices=("the bounded re-gate is not described: span means under the cadence of the baseline",),
    ),
    system(
        "sel-hybrid-static",
        "rejected 2c: half exact tokens, half span means",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(),
        choices=("the ratio is not stated (synthetic); keys are averaged as they are held, rotated (keys)",),
    ),
    system(
        "sel-hybrid-dynamic",
        "rejected 2d: exact tokens for half of the score, span means for the rest",
        PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(mode="dynamic"),
        choices=("the rule is not stated: the fewest exact tokens that hold half of the scaled score (mass_share)",),
    ),
    system(
        "static-route",
        "rejected 3: per head uniform spacing or attention, calibrated",
        PAPER,
        TriAttention(scope="layer-head"),
        EveryK(),
        StaticRoute(),
        choices=("the criterion is not stated: the rule that keeps more of the future attention on calibration texts",),
    ),
    system(
        "step-down",
        "rejected 4a: more cache in early rounds",
        PAPER,
        TriAttention(),
        StepSchedule(direction="step-down"),
        choices=("sizes and switch round are not stated (ratio, switch, horizon)",),
    ),
    system(
        "step-up",
        "rejected 4b: more cache in late rounds",
        PAPER,
        TriAttention(),
        StepSchedule(direction="step-up"),
        choices=("sizes and switch round are not stated (ratio, switch, horizon)",),
    ),
    system(
        "state-emit",
        "rejected 5: state lines, asked for and pinned",
        PAPER,
        TriAttention(),
        EveryK(),
        decoding=StateEmit(),
        choices=("prompt and pin rule are not stated (instruction, marker, most)",),
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
