"""Systems whose scores come from a trained network."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.catalog.system import system
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
)
