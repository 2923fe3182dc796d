"""Systems that change what a slot holds."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.cadence.prefill_only import PrefillOnly
from families.catalog.system import system
from families.head_routing.pyramid import Pyramid
from families.representation.cam import CaM
from families.representation.d2o import D2O
from families.representation.kivi import Kivi
from families.representation.kvquant import KVQuant
from families.representation.kvtuner import KVTuner
from families.representation.mini_cache import MiniCache
from families.representation.nearest_merge import NearestMerge
from families.representation.qaq import QAQ
from families.representation.quest import Quest
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM

SYSTEMS = (
    system("kivi", "every token, in 2-bit codes", "liu2024kivi", Full(), Never(), representation=Kivi()),
    system(
        "kvquant",
        "every token, non-uniform codes of keys before rotation, outliers exact",
        "hooper2024kvquant",
        Full(),
        Never(),
        representation=KVQuant(),
        choices=("codebooks by unweighted k-means; the paper weights by Fisher information",),
    ),
    system(
        "qaq",
        "every token, as many bits as its attention asks for",
        "dong2024qaq",
        Full(),
        Never(),
        representation=QAQ(),
    ),
    system(
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
    system(
        "minikv",
        "H2O on the prompt in a pyramid of layers, then 2-bit codes",
        "sharma2025minikv",
        H2O(),
        PrefillOnly(),
        Pyramid(beta=7.0),
        representation=Kivi(group=16),
        choices=("one set per KV head; the released code keeps one per query head",),
    ),
    system(
        "mini-cache",
        "adjacent layers share directions of keys and values",
        "liu2024minicache",
        Full(),
        Never(),
        representation=MiniCache(),
    ),
    system(
        "kv-merger",
        "SnapKV, evicted values merged into the nearest kept key's",
        "wang2024kvmerger",
        SnapKV(),
        EveryK(),
        representation=NearestMerge(),
        choices=("nearest neighbours; the paper clusters runs of similar keys first",),
    ),
    system(
        "cam",
        "a sliding window, evicted values merged into those that follow",
        "zhang2024cam",
        StreamingLLM(),
        EveryStep(),
        representation=CaM(),
    ),
    system(
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
    system(
        "quest",
        "every token held, the most promising pages attended",
        "tang2024quest",
        Full(),
        Never(),
        representation=Quest(),
        choices=("the cache is not smaller: compare its bytes read, never its bytes held (attended)",),
    ),
)
