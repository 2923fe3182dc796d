"""Systems whose main idea is a representation: how a slot stores a token."""

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
from families.representation.mini_kv import MiniKV
from families.representation.nearest_merge import NearestMerge
from families.representation.qaq import QAQ
from families.representation.quest import Quest
from families.representation.rocket import Rocket
from families.representation.turbo_quant import TurboQuant
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM

SYSTEMS = (
    system("kivi", "full cache in 2-bit codes", "liu2024kivi", Full(), Never(), representation=Kivi()),
    system(
        "kvquant",
        "full cache in non-uniform codes, with keys before rotation and exact outliers",
        "hooper2024kvquant",
        Full(),
        Never(),
        representation=KVQuant(),
        choices=("codebooks by unweighted k-means; the paper weights by Fisher information",),
    ),
    system(
        "qaq",
        "full cache in which each token has as many bits as its attention calls for",
        "dong2024qaq",
        Full(),
        Never(),
        representation=QAQ(),
        choices=(
            "of the authors' search the point that keeps most bits; they search for each model (epsilon, min_bits, max_bits)",
            "one width per token and KV head, by the largest attention of its query heads; no widths per layer or token",
            "coding goes on while decoding, from codes, and only to fewer bits; the paper keeps the originals elsewhere",
            "the norm of queries is the released code's constant; it can be measured (query_norm)",
        ),
    ),
    system(
        "turboquant",
        "full cache in 4-bit codes of rotated keys, without calibration",
        "zandieh2026turboquant",
        Full(),
        Never(),
        representation=TurboQuant(),
        choices=(
            "as in vLLM: no random signs, directions brought to length 1, no correcting bit (signs, renormalise)",
            "the first and last two layers stay in full, as in vLLM; see turboquant-all-layers for small models (skip)",
        ),
    ),
    system(
        "turboquant-all-layers",
        "TurboQuant in every layer, for models of a few layers",
        "zandieh2026turboquant",
        Full(),
        Never(),
        representation=TurboQuant(skip=0),
        choices=("vLLM leaves the first and last two layers in full, half of all at most (skip)",),
    ),
    system(
        "kvtuner",
        "full cache with code widths chosen for each layer, 4 bits in the mean",
        "li2025kvtuner",
        Full(),
        Never(),
        representation=KVTuner(mean_bits=4.0),
        choices=(
            "bits minimise the attention output's error on calibration texts; the paper searches by task accuracy",
            "full groups are coded once, as in KIVI; the released code codes the whole cache again with each of them",
        ),
    ),
    system(
        "minikv",
        "H2O on the prompt with more tokens in lower layers, all text in 2-bit codes",
        "sharma2025minikv",
        H2O(),
        PrefillOnly(),
        Pyramid(beta=7.0),
        representation=MiniKV(),
        choices=(
            "a budget in tokens, half of it the newest; the released code keeps half of the prompt, whatever its length",
            "one set of tokens per KV head; the released code keeps one per query head",
            "the layers' shares add up to the budget; the released code rounds each down (head routing)",
        ),
    ),
    system(
        "mini-cache",
        "full cache in which adjacent layers share directions of keys and values",
        "liu2024minicache",
        Full(),
        Never(),
        representation=MiniCache(),
        choices=(
            "the twentieth of a prompt whose keys are furthest apart stays in full; the paper's rule is unclear (retained)",
            "a generated token stays in full if its keys are more than a quarter turn apart (threshold)",
        ),
    ),
    system(
        "kv-merger",
        "SnapKV; evicted values are merged into the kept token with the nearest key",
        "wang2024kvmerger",
        SnapKV(),
        EveryK(),
        representation=NearestMerge(),
        choices=(
            "nearest neighbours; the paper clusters runs of similar keys first",
            "only values move; the paper merges keys too (merge)",
            "weights are (1 + cosine) / 2, and 1 for the kept token; the paper has a Gaussian kernel (weighting)",
        ),
    ),
    system(
        "cam",
        "StreamingLLM; evicted values are spread over the tokens that follow",
        "zhang2024cam",
        StreamingLLM(),
        EveryStep(),
        representation=CaM(),
        choices=(
            "as in the authors' evaluation code; their streaming code is cam-streaming (attention, compared, spread)",
            "what the prompt's event evicts is dropped, as in both released codes (at_prompt)",
            "a token is merged when it leaves; the evaluation code merges the one after it, and never the first to leave",
            "the attention of the query heads of a group is averaged; the released code has no groups",
        ),
    ),
    system(
        "cam-streaming",
        "StreamingLLM; evicted values are spread by accumulated attention, as in the authors' streaming code",
        "zhang2024cam",
        StreamingLLM(),
        EveryStep(),
        representation=CaM(spread=16, attention="accumulated", compared="next"),
        choices=("tokens keep their original positions; the released code counts positions within the cache",),
    ),
    system(
        "d2o",
        "H2O; evicted tokens are merged if they resemble a kept one",
        "wan2025d2o",
        H2O(sinks=4),
        EveryStep(),
        representation=D2O(),
        choices=(
            "all layers are compressed alike; the paper exempts three and sets layer budgets by attention variance",
            "every head decides what it merges; the released code decides for all heads by the mean of their cosines",
            "the budget is given and cuts the prompt too; the released code takes it from the prompt, a step later",
        ),
    ),
    system(
        "quest",
        "full cache of which each query reads the most promising pages",
        "tang2024quest",
        Full(),
        Never(),
        representation=Quest(),
        choices=(
            "the cache is not smaller: compare its bytes read, never its bytes held (attended)",
            "the last page is always read, as in the released kernel; the evaluation code lets its bound decide",
        ),
    ),
    system(
        "rocket-kv",
        "the prompt cut once by SnapKV's scores, then each query reads the most promising pages of the rest",
        "behnam2025rocketkv",
        SnapKV(recent=32, kernel=63),
        PrefillOnly(),
        representation=Rocket(),
        choices=(
            "stage two reads less and holds all that stage one left: compare its bytes read too (representation attended)",
            "window 32, kernel 63, pages of 4, 64 tokens read: as in TensorRT-LLM, whose prompt budget is 2,048 (nominal)",
            "the last page is always read; the release may leave a query's own token out",
            "whole pages are read, and their bounds are exact; the release may split one, and keeps bounds in 8 bits",
            "attention of the window is averaged over the group, which ranks as the released sum",
        ),
    ),
)
