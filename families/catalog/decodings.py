"""Systems whose main idea is a decoding: how the text is steered."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.catalog.system import system
from families.decoding.budget_forcing import BudgetForcing
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.refresh import Refresh
from families.decoding.rollback import Rollback
from families.decoding.self_consistency import SelfConsistency
from families.decoding.thought_aware import ThoughtAware
from families.scoring.r_kv import RKV
from families.scoring.triattention import TriAttention

SYSTEMS = (
    system(
        "self-consistency",
        "TriAttention with eight samples that share the budget and vote",
        "wang2023selfconsistency",
        TriAttention(),
        EveryK(),
        decoding=SelfConsistency(),
    ),
    system(
        "refresh",
        "TriAttention with the whole text encoded again at intervals",
        "xu2025refreshkv",
        TriAttention(),
        EveryK(),
        decoding=Refresh(),
        choices=(
            "evicted tokens are encoded again and the peak is charged; the paper keeps a full cache beside the small one",
        ),
    ),
    system(
        "rollback",
        "TriAttention; a line is written again if the model was unsure of it",
        None,
        TriAttention(),
        EveryK(),
        decoding=Rollback(),
    ),
    system(
        "thought-aware",
        "R-KV that stops compressing after the thought",
        "cai2025rkv",
        RKV(),
        EveryK(),
        decoding=ThoughtAware(),
    ),
    system(
        "budget-forcing",
        "TriAttention with thoughts that are prolonged once and limited in length",
        "muennighoff2025s1",
        TriAttention(),
        EveryK(),
        decoding=BudgetForcing(),
        choices=("</think> closes a thought; the released code has the delimiters of its own chat format (tag)",),
    ),
    system(
        "chain-of-thought",
        "TriAttention with a prompt that asks for step-by-step reasoning",
        "kojima2022",
        TriAttention(),
        EveryK(),
        decoding=ChainOfThought(),
    ),
)
