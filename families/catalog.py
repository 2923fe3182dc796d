"""Published systems as compositions of the five axes, with their reference defaults and citation keys.

An axis that an entry leaves out is at its baseline: head routing `uniform`, representation `full`, decoding as the sweep's
generation settings say. `choices` says what the published text leaves open or what a bounded cache makes of it, and which
parameter changes that.
"""

from __future__ import annotations

from designspace.axes import Cadence, Decoding, HeadRouting, Mechanism, Representation, Scoring
from families.cadence.adaptive import Adaptive
from families.cadence.annealed import Annealed
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.geometric import Geometric
from families.cadence.hysteresis import Hysteresis
from families.cadence.never import Never
from families.cadence.prefill_only import PrefillOnly
from families.cadence.step_schedule import StepSchedule
from families.decoding.budget_forcing import BudgetForcing
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.self_consistency import SelfConsistency
from families.decoding.state_emit import StateEmit
from families.decoding.thought_aware import ThoughtAware
from families.head_routing.ada_kv import AdaKV
from families.head_routing.duo import Duo
from families.head_routing.dynamic_kv import DynamicKV
from families.head_routing.head_kv import HeadKV
from families.head_routing.kv_sharer import KVSharer
from families.head_routing.pyramid import Pyramid
from families.head_routing.squeeze import Squeeze
from families.head_routing.static_route import StaticRoute
from families.head_routing.uniform import Uniform
from families.representation.cam import CaM
from families.representation.d2o import D2O
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.representation.kvquant import KVQuant
from families.representation.kvtuner import KVTuner
from families.representation.mini_cache import MiniCache
from families.representation.nearest_merge import NearestMerge
from families.representation.qaq import QAQ
from families.representation.quest import Quest
from families.representation.span_mean import SpanMean
from families.representation.subspace import Subspace
from families.scoring.caote import CAOTE
from families.scoring.critical_kv import CriticalKV
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.lag_kv import LagKV
from families.scoring.lazy_eviction import LazyEviction
from families.scoring.q_stats import QStats
from families.scoring.r_kv import RKV
from families.scoring.random import Random
from families.scoring.scissorhands import Scissorhands
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.dpp import DPP
from families.scoring.selectors.facility_location import FacilityLocation
from families.scoring.selectors.k_center import KCenter
from families.scoring.selectors.mmr import MMR
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.triattention import TriAttention
from families.scoring.variant_b import VariantB
from families.scoring.vatp import VATP

_PAPER = "sun2026minimal"  # the source of alpha and of the seven rejected mechanisms


def _system(
    name: str,
    summary: str,
    citation: str | None,
    scoring: Scoring,
    cadence: Cadence,
    head_routing: HeadRouting | None = None,
    *,
    representation: Representation | None = None,
    decoding: Decoding | None = None,
    choices: tuple[str, ...] = (),
) -> Mechanism:
    return Mechanism(
        name=name,
        scoring=scoring,
        head_routing=head_routing or Uniform(),
        cadence=cadence,
        representation=representation or FullPrecision(),
        decoding=decoding,
        citation=citation,
        summary=summary,
        choices=choices,
    )


_REFERENCES = (
    _system("full", "the whole cache in full precision: the reference", None, Full(), Never()),
    _system(
        "random",
        "random retention: the floor",
        None,
        Random(),
        EveryStep(),
        choices=(
            "a token draws its priority once, on arrival; protection as in the scorings it is compared with (recent)",
        ),
    ),
)

_SCORINGS = (
    _system(
        "streaming-llm",
        "attention sinks and a sliding window",
        "xiao2024streamingllm",
        StreamingLLM(),
        EveryStep(),
        choices=("tokens keep their original positions; the paper counts positions within the cache",),
    ),
    _system(
        "h2o",
        "heavy hitters by accumulated attention",
        "zhang2023h2o",
        H2O(),
        EveryStep(),
        choices=(
            "the window is a fixed number of tokens (recent); the paper gives it half of the budget",
            "query heads of a group are averaged row by row; the paper has no groups",
        ),
    ),
    _system(
        "scissorhands",
        "tokens that were often above the mean attention of late",
        "liu2023scissorhands",
        Scissorhands(),
        Hysteresis(),
        choices=(
            "half of the budget is dropped at a time where the steady mean allows it (cadence slack)",
            "all layers alike; the paper gives later layers more (head routing)",
        ),
    ),
    _system("tova", "attention of the newest query", "oren2024tova", TOVA(), EveryStep()),
    _system(
        "snapkv",
        "pooled attention of an observation window, repeated while decoding",
        "li2024snapkv",
        SnapKV(),
        EveryK(),
        choices=(
            "repeated in blocks while decoding, with a window of 8; the paper cuts the prompt once (snapkv-prefill)",
            "one set per KV head, group mean before pooling; the paper keeps a set per query head",
        ),
    ),
    _system(
        "snapkv-prefill",
        "pooled attention of an observation window, prompt only",
        "li2024snapkv",
        SnapKV(recent=32),
        PrefillOnly(),
    ),
    _system(
        "knorm",
        "keys of small norm",
        "devoto2024l2norm",
        KNorm(),
        EveryStep(),
        choices=("all layers are cut; the paper leaves the first two alone",),
    ),
    _system("keydiff", "keys that point away from the mean direction", "park2025keydiff", KeyDiff(), EveryK()),
    _system("lag-kv", "tokens that stand out against the next block", "liang2025lagkv", LagKV(), EveryK()),
    _system(
        "expected-attention",
        "expected attention of Gaussian future queries times the value's norm",
        "devoto2025expected",
        ExpectedAttention(),
        EveryK(),
    ),
    _system(
        "r-kv",
        "attention less redundancy of keys, block-wise",
        "cai2025rkv",
        RKV(),
        EveryK(),
        choices=(
            "the paper's weight 0.1; the released script has 0.07 (lam)",
            "a key without a near duplicate spares nothing; the released code then spares slot 0",
        ),
    ),
    _system(
        "lazy-eviction",
        "how long a token may rest between activations",
        "zhang2025lazyeviction",
        LazyEviction(),
        EveryK(),
        choices=(
            "the second term of the score falls with the interval, as the text says; the formula as printed rises (h2_mode)",
        ),
    ),
    _system(
        "vatp",
        "H2O's mass times the norm of the value",
        "guo2024vatp",
        VATP(),
        EveryStep(),
        choices=("20 sinks as published; at budgets below 40 this leaves nothing to rank (sinks)",),
    ),
    _system(
        "caote",
        "how far the attention output moves without the token",
        "goel2025caote",
        CAOTE(),
        EveryStep(),
        choices=("around H2O's mass, normalised (probabilities, scoring)",),
    ),
    _system(
        "critical-kv",
        "best by attention, the rest by projected value norm",
        "feng2025criticalkv",
        CriticalKV(),
        EveryK(),
    ),
    _system(
        "triattention",
        "expected attention from query centres, one keep list for all heads",
        "triattention2026",
        TriAttention(),
        EveryK(),
        choices=(
            "one ranking for all layers and heads, as in the source paper; the released runner's scope is kv-head (scope)",
            "prompt tokens count and may be evicted, no window, no sinks (sinks, recent)",
        ),
    ),
)

_SELECTORS = (
    _system(
        "alpha",
        "TriAttention with the V-space diversity selector, weight 0.5",
        _PAPER,
        TriAttention(selector=Diversity(weight=0.5)),
        EveryK(),
        choices=(
            "scores are z-normalised first, which the paper does not state (scoring normalise)",
            "protected tokens do not count as chosen (selector seed_with_protected)",
        ),
    ),
    _system("mmr", "H2O's mass, maximal marginal relevance", "carbonell1998mmr", H2O(selector=MMR()), EveryK()),
    _system(
        "facility-location",
        "H2O's mass, coverage of all keys",
        "nemhauser1978",
        H2O(selector=FacilityLocation()),
        EveryK(),
    ),
    _system("dpp", "H2O's mass, greedy determinantal selection", "chen2018fastdpp", H2O(selector=DPP()), EveryK()),
    _system("k-center", "H2O's mass, farthest first", "gonzalez1985", H2O(selector=KCenter()), EveryK()),
)

_ROUTINGS = (
    _system(
        "pyramid-kv", "SnapKV scores, more slots in lower layers", "cai2024pyramidkv", SnapKV(), EveryK(), Pyramid()
    ),
    _system("ada-kv", "SnapKV scores, heads compete within a layer", "feng2024adakv", SnapKV(), EveryK(), AdaKV()),
    _system(
        "headkv",
        "SnapKV scores, heads by calibrated importance",
        "fu2024headkv",
        SnapKV(),
        EveryK(),
        HeadKV(),
        choices=(
            "importance is measured on the model's own texts (designspace calibrate); the paper probes retrieval heads",
        ),
    ),
    _system(
        "duo",
        "retrieval heads hold more, streaming heads sinks and a window",
        "xiao2024duoattention",
        SnapKV(),
        EveryK(),
        Duo(),
        choices=(
            "retrieval heads are bounded, so that the mean is the budget; in the paper they hold everything",
            "the gate is computed from mean queries and keys; the paper trains it",
        ),
    ),
    _system(
        "squeeze", "less for layers whose attention changes little", "wang2024squeeze", H2O(), EveryStep(), Squeeze()
    ),
    _system("dynamic-kv", "layers compete for the slots", "zhou2024dynamickv", SnapKV(), EveryK(), DynamicKV()),
    _system(
        "kv-sharer",
        "dissimilar layers share one cache",
        "yang2024kvsharer",
        Full(),
        Never(),
        KVSharer(),
        choices=("one layer is replaced; the paper replaces a quarter (n_shared)",),
    ),
)

_CADENCES = (
    _system("triattention-annealed", "TriAttention, cut less at first", None, TriAttention(), Annealed()),
    _system("triattention-geometric", "TriAttention, cut at growing intervals", None, TriAttention(), Geometric()),
    _system(
        "triattention-entropy",
        "TriAttention, cut when the model is sure",
        None,
        TriAttention(),
        Adaptive(trigger="entropy"),
    ),
    _system(
        "triattention-shift",
        "TriAttention, cut when attention has moved on",
        None,
        TriAttention(),
        Adaptive(trigger="attention-shift"),
    ),
    _system(
        "triattention-newline", "TriAttention, cut at line ends", None, TriAttention(), Adaptive(trigger="newline")
    ),
)

_REPRESENTATIONS = (
    _system("kivi", "every token, in 2-bit codes", "liu2024kivi", Full(), Never(), representation=Kivi()),
    _system(
        "kvquant",
        "every token, non-uniform codes of keys before rotation, outliers exact",
        "hooper2024kvquant",
        Full(),
        Never(),
        representation=KVQuant(),
        choices=("codebooks by unweighted k-means; the paper weights by Fisher information",),
    ),
    _system(
        "qaq",
        "every token, as many bits as its attention asks for",
        "dong2024qaq",
        Full(),
        Never(),
        representation=QAQ(),
    ),
    _system(
        "kvtuner",
        "every token, bits chosen layer by layer for a mean of 4",
        "li2025kvtuner",
        Full(),
        Never(),
        representation=KVTuner(mean_bits=4.0),
        choices=(
            "bits minimise the attention output's error on calibration texts; the paper searches by task accuracy",
        ),
    ),
    _system(
        "minikv",
        "H2O on the prompt in a pyramid of layers, then 2-bit codes",
        "sharma2025minikv",
        H2O(),
        PrefillOnly(),
        Pyramid(beta=7.0),
        representation=Kivi(group=16),
        choices=("one set per KV head; the released code keeps one per query head",),
    ),
    _system(
        "mini-cache",
        "adjacent layers share directions of keys and values",
        "liu2024minicache",
        Full(),
        Never(),
        representation=MiniCache(),
    ),
    _system(
        "kv-merger",
        "SnapKV, evicted values merged into the nearest kept key's",
        "wang2024kvmerger",
        SnapKV(),
        EveryK(),
        representation=NearestMerge(),
        choices=("nearest neighbours; the paper clusters runs of similar keys first",),
    ),
    _system(
        "cam",
        "a sliding window, evicted values merged into those that follow",
        "zhang2024cam",
        StreamingLLM(),
        EveryStep(),
        representation=CaM(),
    ),
    _system(
        "d2o",
        "H2O, evicted tokens merged where they resemble a kept one",
        "wan2025d2o",
        H2O(sinks=4),
        EveryStep(),
        representation=D2O(),
        choices=(
            "all layers are cut alike; the paper leaves three of them whole and sets layer budgets by attention variance",
        ),
    ),
    _system(
        "quest",
        "every token held, the most promising pages attended",
        "tang2024quest",
        Full(),
        Never(),
        representation=Quest(),
        choices=("the cache is not smaller: compare its bytes read, never its bytes held (attended)",),
    ),
)

_DECODINGS = (
    _system(
        "self-consistency",
        "TriAttention, eight samples share the budget and vote",
        "wang2023selfconsistency",
        TriAttention(),
        EveryK(),
        decoding=SelfConsistency(),
    ),
    _system(
        "refresh",
        "TriAttention, the whole text encoded anew now and then",
        "xu2025refreshkv",
        TriAttention(),
        EveryK(),
        decoding=Refresh(),
        choices=(
            "the evicted tokens are encoded again and the peak is charged; the paper keeps the full cache beside",
        ),
    ),
    _system(
        "rollback",
        "TriAttention, back to the last line when the model is unsure",
        None,
        TriAttention(),
        EveryK(),
        decoding=Rollback(),
    ),
    _system(
        "thought-aware",
        "R-KV that stops cutting after the thought",
        "cai2025rkv",
        RKV(),
        EveryK(),
        decoding=ThoughtAware(),
    ),
    _system(
        "budget-forcing",
        "TriAttention, the thought is stretched and capped",
        "muennighoff2025s1",
        TriAttention(),
        EveryK(),
        decoding=BudgetForcing(),
    ),
    _system(
        "chain-of-thought",
        "TriAttention, asked to think step by step",
        "kojima2022",
        TriAttention(),
        EveryK(),
        decoding=ChainOfThought(),
    ),
)

# The seven rejected mechanisms of the source paper with their sub-attempts, each on its baseline. What the paper does not
# state is named; parameters are those of `triattention` otherwise.
_REJECTED = (
    _system(
        "subspace",
        "rejected 1: values in a per-head PCA basis of rank 32",
        _PAPER,
        TriAttention(),
        EveryK(),
        representation=Subspace(),
        choices=("use a budget in bytes, so that the saving is spent on more slots",),
    ),
    _system(
        "syn-mem-prefill",
        "rejected 2a: the prompt as span means",
        _PAPER,
        TriAttention(),
        PrefillOnly(),
        representation=SpanMean(synthetic=1.0),
    ),
    _system(
        "syn-mem-bounded",
        "rejected 2b: span means throughout, re-cut in blocks",
        _PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(synthetic=1.0),
        choices=("the bounded re-gate is not described: span means under the cadence of the baseline",),
    ),
    _system(
        "sel-hybrid-static",
        "rejected 2c: half exact tokens, half span means",
        _PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(),
        choices=("the ratio is not stated (synthetic); keys are averaged as they are held, rotated (keys)",),
    ),
    _system(
        "sel-hybrid-dynamic",
        "rejected 2d: exact tokens for half of the score, span means for the rest",
        _PAPER,
        TriAttention(),
        EveryK(),
        representation=SpanMean(mode="dynamic"),
        choices=("the rule is not stated: the fewest exact tokens that hold half of the scaled score (mass_share)",),
    ),
    _system(
        "static-route",
        "rejected 3: per head uniform spacing or attention, calibrated",
        _PAPER,
        TriAttention(scope="layer-head"),
        EveryK(),
        StaticRoute(),
        choices=("the criterion is not stated: the rule that keeps more of the future attention on calibration texts",),
    ),
    _system(
        "step-down",
        "rejected 4a: more cache in early rounds",
        _PAPER,
        TriAttention(),
        StepSchedule(direction="step-down"),
        choices=("sizes and switch round are not stated (ratio, switch, horizon)",),
    ),
    _system(
        "step-up",
        "rejected 4b: more cache in late rounds",
        _PAPER,
        TriAttention(),
        StepSchedule(direction="step-up"),
        choices=("sizes and switch round are not stated (ratio, switch, horizon)",),
    ),
    _system(
        "state-emit",
        "rejected 5: state lines, asked for and pinned",
        _PAPER,
        TriAttention(),
        EveryK(),
        decoding=StateEmit(),
        choices=("prompt and pin rule are not stated (instruction, marker, most)",),
    ),
    _system(
        "variant-b",
        "rejected 6: TriAttention plus a cosine to the task's mean value",
        _PAPER,
        VariantB(),
        EveryK(),
        choices=("the direction is the mean over prompt tokens; the paper does not say over which (over)",),
    ),
    _system(
        "q-stats", "rejected 7: TriAttention with statistics of the model's own reasoning", _PAPER, QStats(), EveryK()
    ),
)

CATALOG = {
    system.name: system
    for system in (
        *_REFERENCES,
        *_SCORINGS,
        *_SELECTORS,
        *_ROUTINGS,
        *_CADENCES,
        *_REPRESENTATIONS,
        *_DECODINGS,
        *_REJECTED,
    )
}
