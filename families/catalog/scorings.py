"""Systems whose main idea is a scoring: which tokens to keep."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.hysteresis import Hysteresis
from families.cadence.prefill_only import PrefillOnly
from families.catalog.system import TRIGGER, system
from families.scoring.caote import CAOTE
from families.scoring.critical_kv import CriticalKV
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.g_kv import GKV
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.lag_kv import LagKV
from families.scoring.lazy_eviction import LazyEviction
from families.scoring.morph_kv import MorphKV
from families.scoring.r_kv import RKV
from families.scoring.scissorhands import Scissorhands
from families.scoring.scope import Scope
from families.scoring.skip_kv import SkipKV
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.triattention import TriAttention
from families.scoring.vase import Vase
from families.scoring.vatp import VATP

_LAZY_HEADS = (
    "one set of tokens per KV head, attended if one query head attends; the released code has one per query head"
)
_LAZY_WINDOW = (
    "W is 27 (Llama, GSM8K); published too: 52, 95 for MATH, AIME, and 101, 175, 363 for Qwen (recent, cadence k)"
)
_LAZY_FORMULA = (
    "the second term falls with the interval, as in the released code; the formula as printed rises (h2_mode)"
)
_LAZY_TIES = (
    "tokens that were never attended to again tie, and the newest stay; the released code leaves that to its top-k"
)
_LAZY_THRESHOLD = (
    "5e-4 was chosen for some 1,400 tokens; up to 100 nearly all pass it, which leaves recency (threshold)"
)

_SCISSORHANDS = (
    "up to half of the budget is dropped at a time, as far as the steady mean allows (cadence slack)",
    "all layers get the same budget; the paper gives later layers more (head routing)",
    "history and window (400 and 10 tokens) are those of a public re-implementation (history, recent)",
    "prompt queries count, and query heads of a group are averaged before the threshold",
)

_SNAPKV_HEADS = (
    "one set of tokens per KV head, averaged over the group before pooling; the paper keeps one per query head"
)
_RKV_DUPLICATES = "a key without a near duplicate spares nothing; the released code then spares slot 0"
_RKV_ORDER = "kept tokens stay in the order of the text; the released code leaves them in the order of their scores"

SYSTEMS = (
    system(
        "streaming-llm",
        "attention sinks and a sliding window",
        "xiao2024streamingllm",
        StreamingLLM(),
        EveryStep(),
        choices=("tokens keep their original positions; the paper counts positions within the cache",),
    ),
    system(
        "h2o",
        "heavy hitters by accumulated attention",
        "zhang2023h2o",
        H2O(),
        EveryStep(),
        choices=(
            "half of the budget is the window; the released code counts it in tokens or in shares of the prompt (recent)",
            "query heads of a group are averaged row by row; the paper has no groups",
        ),
    ),
    system(
        "scope",
        "heavy hitters of the prompt in its budget, of the trace what the newest query attends to in its own",
        "wu2024scope",
        Scope(),
        EveryStep(),
        choices=(
            "for a budget in two parts, released: {prompt: 2048, trace: 512}; at one for all it is not SCOPE (budget)",
            "the strategy is `slide`; `adaptive` and `discontinuous`, whose trace grows with the text, match no budget",
            "slots that the trace has not filled hold tokens of the prompt; the release cuts the prompt at once (budget)",
            "the window is a share of what an event leaves, 256 of 2,560 tokens; released runs fix 256 (recent)",
            "the window is the trace's alone once it has as many tokens; the release keeps the newest 64 of the prompt too",
            "the prompt's sums are causal; the release's H2O masks the last 64 queries alone",
            "one set of tokens per KV head, averaged over its query heads; the release keeps one per query head",
        ),
    ),
    system(
        "morph-kv",
        "a constant cache of a window and of what its queries attend to, chosen anew at every step",
        "ghadia2025morphkv",
        MorphKV(recent=32),
        EveryStep(),
        choices=(
            "a window of 32 and sums, as released for long prompts; for long answers 200 and maxima (recent, fuse)",
            "logits of a group are added before the softmax, as in the released code; the paper has no groups",
            "the queries are the newest; the released code cuts within a step and leaves the very newest out",
            "the prompt is cut right after it; the released code cuts at the first step after it (cadence prefill)",
            "evicted tokens are dropped; a later version of the code merges them all into one slot, their mean",
        ),
    ),
    system(
        "scissorhands",
        "tokens that recent queries seldom gave less than average attention",
        "liu2023scissorhands",
        Scissorhands(),
        Hysteresis(),
        choices=(*_SCISSORHANDS, "what counts is the number of queries against a token, as published (normalise)"),
    ),
    system(
        "scissorhands-rate",
        "tokens to which a large share of recent queries gave at least average attention",
        "liu2023scissorhands",
        Scissorhands(normalise="rate"),
        Hysteresis(),
        choices=(
            *_SCISSORHANDS,
            "queries against a token count by their share, so new ones are not favoured; the paper counts them (normalise)",
        ),
    ),
    system(
        "tova",
        "attention of the newest query",
        "oren2024tova",
        TOVA(),
        EveryStep(),
        choices=("the newest token is always kept, as in kvpress; the authors' code may evict it (recent)",),
    ),
    system(
        "snapkv",
        "pooled attention of an observation window of 32 tokens, repeated while decoding",
        "li2024snapkv",
        SnapKV(recent=32),
        EveryK(),
        choices=(
            "compressed in blocks while decoding; the authors compress the prompt alone (cadence, snapkv-prefill)",
            "a window of 32 as released; where that is most of the budget, see snapkv-window-8 (recent)",
            _SNAPKV_HEADS,
        ),
    ),
    system(
        "snapkv-window-8",
        "pooled attention of an observation window of 8 tokens, repeated while decoding",
        "li2024snapkv",
        SnapKV(),
        EveryK(),
        choices=(
            "compressed in blocks while decoding; the authors compress the prompt alone (cadence, snapkv-prefill)",
            "a window of 8, as where R-KV's release runs SnapKV while decoding; the authors have 32 (recent, snapkv)",
            _SNAPKV_HEADS,
        ),
    ),
    system(
        "snapkv-prefill",
        "pooled attention of an observation window, prompt only",
        "li2024snapkv",
        SnapKV(recent=32),
        PrefillOnly(),
        choices=(_SNAPKV_HEADS,),
    ),
    system(
        "knorm",
        "keys of small norm",
        "devoto2024l2norm",
        KNorm(),
        EveryStep(),
        choices=(
            "all layers are compressed; the paper leaves the first two alone",
            "the newest 8 tokens are always kept; the released code has no window (recent)",
        ),
    ),
    system(
        "keydiff",
        "keys that point away from the mean direction",
        "park2025keydiff",
        KeyDiff(),
        EveryK(),
        choices=("the newest 8 tokens are always kept; the paper has no window (recent)",),
    ),
    system(
        "lag-kv",
        "tokens that stand out against the next block",
        "liang2025lagkv",
        LagKV(),
        EveryK(),
        choices=("blocks of 16 tokens, for small budgets; the released code has 128 (lag)",),
    ),
    system(
        "expected-attention",
        "expected attention of Gaussian future queries times the value's norm",
        "devoto2025expected",
        ExpectedAttention(),
        EveryK(),
        choices=("the newest 8 tokens are always kept; the released code has no window (recent)",),
    ),
    system(
        "r-kv",
        "attention minus redundancy of keys, compressed in blocks",
        "cai2025rkv",
        RKV(),
        EveryK(),
        choices=(
            "attention weighs the recommended 0.1; the released script has 0.07, and r-kv-equal 0.5 (lam)",
            _RKV_DUPLICATES,
            _RKV_ORDER,
        ),
    ),
    system(
        "r-kv-equal",
        "attention minus redundancy of keys in equal parts, compressed in blocks",
        "cai2025rkv",
        RKV(lam=0.5),
        EveryK(),
        choices=(
            "attention weighs 0.5: 7 to 9 points above the recommended 0.1 where others measured it, arXiv 2609.03430 (lam)",
            _RKV_DUPLICATES,
            _RKV_ORDER,
        ),
    ),
    system(
        "g-kv",
        "attention that fades from event to event, minus how like others a key is, in equal parts",
        "liao2025gkv",
        GKV(lam=0.5),
        EveryK(),
        choices=(
            "attention weighs 0.5, as the authors' script has it for G-KV; the default of their class is 0.1 (lam)",
            "a window of 8 tokens, for small budgets, as in their class; their script has 16 (recent)",
            "the similarity is the row means of their kernel, which differ from R-KV's column means (similarity)",
            "their models may be trained further for the compressed cache; here none is",
        ),
    ),
    system(
        "skip-kv",
        "R-KV's score less a penalty on sentences that later ones repeat, compressed in blocks",
        "tian2026skipkv",
        SkipKV(),
        EveryK(),
        choices=(
            "sentences are alike from a cosine of 0.95 on; published are 0.95 to 0.99 by model, task and budget (alike)",
            "sentences end at the release's seven tokens with line feeds; other languages need others (ends)",
            "sentences are compared up to an event's newest token, in prompt events too; the release lags by one step",
            "a head follows its sentences by positions; in the release one that has none left never has any again",
            "the steering towards shorter texts, the other half of the method, is left out, and so is batch grouping",
            _RKV_DUPLICATES,
            _RKV_ORDER,
        ),
    ),
    system(
        "lazy-eviction",
        "tokens that are likely to be attended to again, judged by their longest pause",
        "zhang2025lazyeviction",
        LazyEviction(recent=27),
        EveryK(k=27, prefill=False),
        choices=(_LAZY_HEADS, _LAZY_WINDOW, _LAZY_FORMULA, _LAZY_TIES, _LAZY_THRESHOLD),
    ),
    system(
        "lazy-eviction-small-cache",
        "LazyEviction with a threshold for caches of about 100 tokens",
        "zhang2025lazyeviction",
        LazyEviction(threshold=0.02, recent=27),
        EveryK(k=27, prefill=False),
        choices=(
            _LAZY_HEADS,
            _LAZY_WINDOW,
            _LAZY_FORMULA,
            _LAZY_TIES,
            "a threshold of 0.02, tried on the bundled models at 96 tokens; published is 5e-4 for some 1,400 (threshold)",
        ),
    ),
    system(
        "vatp",
        "H2O's mass times the norm of the value",
        "guo2024vatp",
        VATP(),
        EveryStep(),
        choices=("20 sinks and H2O's window, as published: up to 40 tokens they leave nothing to rank (sinks)",),
    ),
    system(
        "caote",
        "how far the attention output moves without the token",
        "goel2025caote",
        CAOTE(),
        EveryStep(),
        choices=("the probabilities are H2O's scores divided by their sum (probabilities, scoring)",),
    ),
    system(
        "critical-kv",
        "the best tokens by attention, then the best by attention times projected value norm",
        "feng2025criticalkv",
        CriticalKV(scoring=SnapKV(recent=32)),
        EveryK(),
        choices=(
            "SnapKV with its window of 32 as released, but compressed in blocks while decoding too (scoring, cadence)",
        ),
    ),
    system(
        "triattention",
        "expected attention from mean queries, with one ranking for all heads",
        "triattention2026",
        TriAttention(),
        EveryK(),
        choices=(
            "one ranking for all layers and heads, as in the source paper; the released runner's scope is kv-head (scope)",
            "prompt tokens count in the budget and may be evicted; no window and no sinks (sinks, recent)",
            TRIGGER,
        ),
    ),
    system(
        "vase",
        "the largest values, and of the others a draw by their attention",
        "chang2026vase",
        Vase(),
        EveryK(longest=64),
        choices=(
            "the window is 8 tokens, for small budgets; the release keeps 64 and scores by as many queries (recent)",
            "the large values are a quarter of what an event leaves; the authors take half on GSM8K (large)",
            "events come every k steps of a text, at most every 64; the release cuts at multiples of 64 tokens (cadence)",
        ),
    ),
)
