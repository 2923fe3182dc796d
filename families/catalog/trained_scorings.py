"""Systems whose scores come from a trained network."""

from __future__ import annotations

from designspace.axes import WindowShare
from families.cadence.every_k import EveryK
from families.cadence.threshold import Threshold
from families.catalog.system import system
from families.head_routing.pooled import Pooled
from families.scoring.dms import DMS
from families.scoring.fast_kvzip import FastKVzip
from families.scoring.kvzap import KVzap
from families.scoring.learned import Learned
from families.scoring.trim_kv import TrimKV

SYSTEMS = (
    system(
        "trim-kv",
        "what a gate, trained to say how fast a token may be forgotten, leaves of it",
        "bui2025trimkv",
        TrimKV(),
        EveryK(),
        choices=(
            "the gate is trained here, layer by layer, on future attention; published gates are trained with the whole model",
            "no published checkpoint was at hand; `calibrate MODEL trim-gate --weights FILE` loads its format (calibration)",
            "the gates are computed in float32, in the release in the model's type",
            "one budget for each head, as in the release's TrimKVCache; its variants share one among heads (head_routing)",
            "events come every k steps of a text; the release cuts when 128 tokens came on top of its memory (cadence)",
        ),
    ),
    system(
        "learned-retention",
        "what a network for each head, trained on future attention, expects of a token",
        "moschella2026kvp",
        Learned(),
        EveryK(),
        choices=(
            "no published network: its nearest relative is KVP, trained by reinforcement to rank (calibration learned)",
            "4 sinks and a window of 8 tokens; without them it solved fewer of the development problems (sinks, recent)",
            "it reads keys before RoPE, values, age and position, and learns from texts of up to 512 tokens (calibration)",
        ),
    ),
    system(
        "kvzap",
        "what scores below -4 by a network that estimates KVzip+ is evicted once it has left a window of 128",
        "jegou2026kvzap",
        KVzap(),
        Threshold(tau=-4.0),
        choices=(
            "no budget: heads hold what passes, and tau decides how much; the release tries -3 to -6 (cadence tau)",
            "the networks are fitted here, linear, to a text written twice; the published ones are per model (calibration)",
            "no published checkpoint was at hand; `calibrate MODEL kvzap --weights FILE` reads the names of its modules",
            "the loader was tried on weights made here, linear and with a hidden layer",
            "the networks are computed in float32, in the release in the model's type",
            "the prompt is cut and decoding too; kvpress' default is the prompt alone (cadence)",
        ),
    ),
    system(
        "dms",
        "what a trained head gives up, by the input of the next token, is evicted once it has left a window of 512",
        "lancucki2025dms",
        DMS(),
        Threshold(tau=0.0),
        choices=(
            "no budget: heads hold what is not given up; the release trains the share, here it is 1 in 4 (calibration)",
            "the decisions are fitted here by logistic regression, on a model that knows nothing of them (calibration)",
            "no published checkpoint runs: it has decisions in its queries, and such models are refused (scoring)",
            "checkpoints with a projection of their own are read by `calibrate MODEL dms-gate --weights FILE`",
            "that loader was tried on weights made here, as no such checkpoint is published",
            "the prompt is encoded with full attention and cut then; the release masks within it",
        ),
    ),
    system(
        "fast-kvzip",
        "gates of low-rank sink attention that estimate KVzip; all layers and heads compete for one budget",
        "kim2026fastkvzip",
        FastKVzip(recent=WindowShare(0.03125)),
        EveryK(),
        Pooled(),
        choices=(
            "a budget, as in the release, which takes the threshold that meets it; `fast-kvzip-threshold` has a fixed one",
            "the gates are trained here on a text written twice; the published ones are per model (calibration)",
            "published gates are pickles, which are not read; saved as safetensors they are (calibration)",
            "that loader was tried on weights made here",
            "events come every k steps, at most 128, the release's buffer (cadence)",
            "a window of a 32nd of the budget, as 128 of 4096 in the release's example; its code has 128 at any (recent)",
            "where scores tie at the threshold the release keeps all of them, here the total is exact",
        ),
    ),
    system(
        "fast-kvzip-threshold",
        "Fast KVzip's gates with a fixed threshold: heads hold what passes",
        "kim2026fastkvzip",
        FastKVzip(),
        Threshold(tau=0.05, k=128),
        choices=(
            "no budget, where the release has one; tau is no published number: of attention weights (cadence tau)",
            "tokens are judged every 128 steps, the release's buffer (cadence k)",
            "a window of 128 tokens; gates as in `fast-kvzip` (recent, calibration)",
        ),
    ),
    system(
        "learned-threshold",
        "what a network for each head, trained on future attention, expects too little of is evicted",
        "moschella2026kvp",
        Learned(),
        Threshold(tau=0.0, k=8),
        choices=(
            "no published system: the scores of `learned-retention` under the rule of DMS and KVzap",
            "a head's scores are known up to a constant, as they are trained by a softmax, so tau cuts heads unlike (tau)",
            "scores fall with age, so a token that has passed is judged again at each event",
            "tau was set by the caches that it gives on the bundled models, not by what they solve (cadence tau)",
        ),
    ),
)
