"""Systems that keep the whole prompt: is a gap between scorings one between scores, or only in what became of the prompt?"""

from __future__ import annotations

from designspace.axes import WindowShare
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.growing import Growing
from families.catalog.system import system
from families.scoring.random import Random
from families.scoring.rpc import RPC
from families.scoring.streaming_llm import StreamingLLM

SYSTEMS = (
    system(
        "random-attention",
        "the prompt, the newest tokens, and of the others a fresh random draw at every event",
        "randomattention2026",
        Random(draw="per-event", recent=WindowShare(1 / 17), protect="prompt"),
        EveryK(longest=64),
        choices=(
            "the window is a share of what an event leaves, 64 tokens at the released 1,088 (scoring recent)",
            "events come every k steps of a text, at most every 64; the release cuts at multiples of 64 tokens (cadence)",
            "a prompt that leaves no room is refused; the release cuts such a prompt to what fits",
        ),
    ),
    system(
        "prefix-sliding",
        "the prompt and a sliding window",
        "muennighoff2026prefixsliding",
        StreamingLLM(sinks=0, protect="prompt"),
        EveryStep(),
        choices=(
            "the window is what the prompt leaves of the budget; the release fixes the window and adds the prompt",
        ),
    ),
    system(
        "rpc",
        "the prompt, the newest tokens, and of every period of the text a fraction by the newest queries' attention",
        "song2025rpc",
        RPC(),
        Growing(),
        choices=(
            "the cache grows with the text, so it takes no budget and is unmatched with every other arm (cadence ratio)",
            "31 distinct queries score, of which the newest counts twice, as in the release (scoring newest)",
        ),
    ),
)
