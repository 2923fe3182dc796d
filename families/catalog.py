"""Published systems as compositions of the five axes, with their reference defaults and citation keys."""

from __future__ import annotations

from designspace.axes import Cadence, HeadRouting, Mechanism, Representation, Scoring
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.kivi import Kivi
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.lag_kv import LagKV
from families.scoring.r_kv import RKV
from families.scoring.random import Random
from families.scoring.selectors.diversity import Diversity
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.triattention import TriAttention


def _system(
    name: str,
    summary: str,
    citation: str | None,
    scoring: Scoring,
    cadence: Cadence,
    head_routing: HeadRouting | None = None,
    representation: Representation | None = None,
) -> Mechanism:
    return Mechanism(
        name=name,
        scoring=scoring,
        head_routing=head_routing or Uniform(),
        cadence=cadence,
        representation=representation or FullPrecision(),
        citation=citation,
        summary=summary,
    )


_SYSTEMS = (
    _system("full", "the whole cache in full precision: the reference", None, Full(), Never()),
    _system("random", "random retention: the floor", None, Random(), EveryStep()),
    _system("streaming-llm", "attention sinks and a sliding window", "xiao2024streamingllm", StreamingLLM(), EveryStep()),
    _system("h2o", "heavy hitters by accumulated attention", "zhang2023h2o", H2O(), EveryStep()),
    _system("tova", "attention of the newest query", "oren2024tova", TOVA(), EveryStep()),
    _system("snapkv", "pooled attention of an observation window, repeated while decoding", "li2024snapkv", SnapKV(), EveryK()),
    _system("knorm", "keys of small norm", "devoto2024l2norm", KNorm(), EveryStep()),
    _system("keydiff", "keys that point away from the mean direction", "park2025keydiff", KeyDiff(), EveryK()),
    _system("lag-kv", "tokens that stand out against the next block", "liang2025lagkv", LagKV(), EveryK()),
    _system(
        "expected-attention", "expected attention of Gaussian future queries times the value's norm", "devoto2025expected",
        ExpectedAttention(), EveryK(),
    ),
    _system("r-kv", "attention less redundancy of keys, block-wise", "cai2025rkv", RKV(), EveryK()),
    _system("pyramid-kv", "SnapKV scores, more slots in lower layers", "cai2024pyramidkv", SnapKV(), EveryK(), Pyramid()),
    _system("ada-kv", "SnapKV scores, heads compete within a layer", "feng2024adakv", SnapKV(), EveryK(), AdaKV()),
    _system(
        "triattention", "expected attention from query centres, one keep list for all heads", "triattention2026",
        TriAttention(), EveryK(),
    ),
    _system(
        "alpha", "TriAttention with the V-space diversity selector, weight 0.5", "sun2026minimal",
        TriAttention(selector=Diversity(weight=0.5)), EveryK(),
    ),
    _system("kivi", "every token, in 2-bit codes", "liu2024kivi", Full(), Never(), representation=Kivi()),
)  # fmt: skip

CATALOG = {system.name: system for system in _SYSTEMS}
