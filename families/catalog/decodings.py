"""Systems that steer the text."""

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
        "TriAttention, eight samples share the budget and vote",
        "wang2023selfconsistency",
        TriAttention(),
        EveryK(),
        decoding=SelfConsistency(),
    ),
    system(
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
    system(
        "rollback",
        "TriAttention, back to the last line when the model is unsure",
        None,
        TriAttention(),
        EveryK(),
        decoding=Rollback(),
    ),
    system(
        "thought-aware",
        "R-KV that stops cutting after the thought",
        "cai2025rkv",
        RKV(),
        EveryK(),
        decoding=ThoughtAware(),
    ),
    system(
        "budget-forcing",
        "TriAttention, the thought is stretched and capped",
        "muennighoff2025s1",
        TriAttention(),
        EveryK(),
        decoding=BudgetForcing(),
    ),
    system(
        "chain-of-thought",
        "TriAttention, asked to think step by step",
        "kojima2022",
        TriAttention(),
        EveryK(),
        decoding=ChainOfThought(),
    ),
)
