"""Systems whose main idea is a head routing: how the budget is shared out among layers and heads."""

from __future__ import annotations

from designspace.axes import WindowShare
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.catalog.system import system
from families.head_routing.ada_kv import AdaKV
from families.head_routing.duo import Duo
from families.head_routing.dynamic_kv import DynamicKV
from families.head_routing.head_kv import HeadKV
from families.head_routing.kv_sharer import KVSharer
from families.head_routing.pyramid import Pyramid
from families.head_routing.squeeze import Squeeze
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV

SYSTEMS = (
    system(
        "pyramid-kv",
        "SnapKV scores, with more tokens in lower layers",
        "cai2024pyramidkv",
        SnapKV(),
        EveryK(),
        Pyramid(),
    ),
    system(
        "ada-kv",
        "SnapKV scores; the heads of a layer compete for its tokens",
        "feng2024adakv",
        SnapKV(recent=32),
        EveryK(),
        AdaKV(),
        choices=(
            "SnapKV's window of 32 as released, but compressed in blocks while decoding too (scoring recent, cadence)",
        ),
    ),
    system(
        "headkv",
        "SnapKV scores; heads get tokens by their measured importance",
        "fu2024headkv",
        SnapKV(),
        EveryK(),
        HeadKV(),
        choices=(
            "importance is measured on the model's own texts (designspace calibrate); the paper probes retrieval heads",
        ),
    ),
    system(
        "duo",
        "SnapKV scores; retrieval heads hold more tokens, streaming heads hold sinks and a window",
        "xiao2024duoattention",
        SnapKV(),
        EveryK(),
        Duo(),
        choices=(
            "retrieval heads are bounded, so that the mean is the budget; in the paper they hold everything",
            "the gate is computed from mean queries and keys, as kvpress does on the fly; the paper trains it",
            "streaming heads hold 4 first tokens and a quarter of the budget; in kvpress 128 and 256 (sinks, stream)",
        ),
    ),
    system(
        "rlkv",
        "trained gates choose the heads that hold more tokens; the others hold sinks and a window",
        "du2025whichheads",
        SnapKV(),
        EveryK(),
        Duo(sinks=16),
        choices=(
            "the gates are imported: designspace calibrate MODEL --head-scores adapter_weights.tsv; measured ones are duo's",
            "heads that matter are bounded, so that the mean is the budget; in the release they hold everything",
            "half of the heads matter; the release reports 0.2 to 0.8 of them streaming (retrieval)",
            "streaming heads hold 16 sinks and a quarter of the budget in all; released: 16 and 64, of any text (stream)",
            "heads that matter are cut by SnapKV's scores; in the release nothing is evicted from them (scoring)",
        ),
    ),
    system(
        "squeeze",
        "H2O scores, with fewer tokens for layers whose attention changes little",
        "wang2024squeeze",
        H2O(recent=WindowShare(Squeeze().p / 2)),
        EveryStep(),
        Squeeze(),
        choices=(
            "groups of layers are the exact optimum; the released code's clustering depends on random seeds",
            "the layers' shares add up to the budget; the released code rounds each down",
            "the window is half of what the smallest layers hold, and no longer in the others (scoring recent)",
        ),
    ),
    system(
        "dynamic-kv",
        "SnapKV scores; the layers compete for tokens",
        "zhou2024dynamickv",
        SnapKV(),
        EveryK(),
        DynamicKV(),
        choices=(
            "all layers are compared at every event; the released code decides after every fourth layer of the prompt",
            "one set of tokens per KV head, and shares that add up; the released code has query heads and rounds down",
        ),
    ),
    system(
        "kv-sharer",
        "full cache in which one layer reads the cache of a dissimilar layer",
        "yang2024kvsharer",
        Full(),
        Never(),
        KVSharer(),
        choices=(
            "one layer is replaced; the paper replaces a quarter, the released code 4 of 32 (n_shared)",
            "replacements are chosen on the model's own texts (designspace calibrate); the released code has Wikipedia's",
        ),
    ),
)
