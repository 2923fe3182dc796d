"""The columns of the page's tables, the most important first: how each is headed, spelt and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from designspace.report import wording
from designspace.report.fidelity import ArmFidelity
from designspace.report.summary import ArmSummary

Value = float | str | None
_Arm = TypeVar("_Arm")
Levels = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Column(Generic[_Arm]):
    """One column.

    Attributes:
        key: its name in the page's data.
        heading: with the unit.
        block: heading of the table that it stands in where there is no room for all columns, as on paper.
        show: spells the value.
        value: what it is sorted by and drawn from.
        at_first: whether it is shown before a reader chooses columns.
        in_words: whether it holds words, which are set to the left and may be wrapped, or numbers.
    """

    key: str
    heading: str
    block: str
    show: Callable[[_Arm], str]
    value: Callable[[_Arm], Value]
    at_first: bool = False
    in_words: bool = False


_ACCURACY, _CACHE, _PROMPT, _AXES = "Accuracy", "Cache", "Prompt, events and lengths", "Axes on which arms differ"

ARM_COLUMNS: tuple[Column[ArmSummary], ...] = (
    Column("accuracy", "accuracy, %", _ACCURACY, lambda a: wording.percent(a.accuracy), lambda a: a.accuracy, True),
    Column(
        "low", "95 % interval", _ACCURACY, wording.interval, lambda a: None if a.interval is None else a.interval.low, True
    ),
    Column("tokens", "mean cache, tokens", _CACHE, lambda a: wording.number(a.mean_cache_tokens),
           lambda a: a.mean_cache_tokens, True),
    Column("comparable", "comparable", _ACCURACY, wording.comparable, wording.comparable, True, True),
    Column("held", "held, KiB", _CACHE, lambda a: wording.kibibytes(a.mean_cache_bytes), lambda a: a.mean_cache_bytes, True),
    Column("read", "read per step, KiB", _CACHE, lambda a: wording.kibibytes(a.mean_read_bytes),
           lambda a: a.mean_read_bytes, True),
    Column("prompt", "prompt kept in a head, %", _PROMPT, lambda a: wording.percent(a.prompt_survival_mean),
           lambda a: a.prompt_survival_mean, True),
    Column("extracted", "extracted, %", _ACCURACY, lambda a: wording.percent(a.extraction_rate),
           lambda a: a.extraction_rate, True),
    Column("truncated", "truncated, %", _PROMPT, lambda a: wording.percent(a.truncation_rate),
           lambda a: a.truncation_rate, True),
    Column("length", "new tokens per text", _PROMPT, lambda a: wording.number(a.mean_new_tokens, 0),
           lambda a: a.mean_new_tokens, True),
    Column("triggered", "texts with events, %", _PROMPT, lambda a: wording.percent(a.event_share, 0),
           lambda a: a.event_share),
    Column("events", "events per text", _PROMPT, lambda a: wording.number(a.mean_n_events), lambda a: a.mean_n_events),
    Column("any_head", "prompt kept in any head, %", _PROMPT, lambda a: wording.percent(a.prompt_survival_union),
           lambda a: a.prompt_survival_union),
    Column("lenient", "lenient, %", _ACCURACY, lambda a: wording.percent(a.lenient_accuracy), lambda a: a.lenient_accuracy),
    Column("if_extracted", "accuracy if extracted, %", _ACCURACY, lambda a: wording.percent(a.accuracy_given_extraction),
           lambda a: a.accuracy_given_extraction),
    Column("steady", "steady mean, tokens", _CACHE, lambda a: wording.number(a.steady_mean_cache_tokens),
           lambda a: a.steady_mean_cache_tokens),
    Column("peak", "peak, tokens", _CACHE, lambda a: wording.number(a.peak_cache_tokens, 0), lambda a: a.peak_cache_tokens),
    Column("auxiliary", "auxiliary, KiB", _CACHE, lambda a: wording.kibibytes(a.mean_aux_bytes), lambda a: a.mean_aux_bytes),
    Column("texts", "texts", _ACCURACY, lambda a: f"{a.n_generations:,}", lambda a: a.n_generations),
    Column("problems", "problems", _ACCURACY, lambda a: f"{a.n_problems:,}", lambda a: a.n_problems),
)  # fmt: skip

_FED = "Fidelity"
FIDELITY_COLUMNS: tuple[Column[ArmFidelity], ...] = (
    Column("loss", "loss over full, nats per token", _FED, lambda a: f"{a.loss_over_full:.4f}", lambda a: a.loss_over_full,
           True),
    Column("loss_low", "95 % interval of the loss", _FED, lambda a: wording.between(a.loss_interval, 4),
           lambda a: a.loss_interval.low, True),
    Column("agreement", "agreement, %", _FED, lambda a: wording.percent(a.agreement, 2), lambda a: a.agreement, True),
    Column("agreement_low", "95 % interval of the agreement", _FED, lambda a: wording.between(a.agreement_interval, 2, 100),
           lambda a: a.agreement_interval.low, True),
    Column("tokens", "mean cache, tokens", _CACHE, lambda a: wording.number(a.cache.mean_cache_tokens),
           lambda a: a.cache.mean_cache_tokens, True),
    Column("comparable", "comparable", _FED, lambda a: wording.comparable(a.cache), lambda a: wording.comparable(a.cache),
           True, in_words=True),
    Column("whole", "whole texts, %", _FED, lambda a: wording.percent(a.undisturbed), lambda a: a.undisturbed, True),
    Column("first", "first disagreement, median token", _FED, lambda a: wording.number(a.first_disagreement),
           lambda a: a.first_disagreement, True),
    Column("prompt", "prompt kept in a head, %", _CACHE, lambda a: wording.percent(a.cache.prompt_survival_mean),
           lambda a: a.cache.prompt_survival_mean, True),
    Column("held", "held, KiB", _CACHE, lambda a: wording.kibibytes(a.cache.mean_cache_bytes),
           lambda a: a.cache.mean_cache_bytes),
    Column("read", "read per step, KiB", _CACHE, lambda a: wording.kibibytes(a.cache.mean_read_bytes),
           lambda a: a.cache.mean_read_bytes),
    Column("peak", "peak, tokens", _CACHE, lambda a: wording.number(a.cache.peak_cache_tokens, 0),
           lambda a: a.cache.peak_cache_tokens),
    Column("length", "tokens per text", _CACHE, lambda a: wording.number(a.cache.mean_new_tokens, 0),
           lambda a: a.cache.mean_new_tokens),
    Column("fed", "fed", _CACHE, lambda a: a.of, lambda a: a.of, in_words=True),
    Column("texts", "texts", _CACHE, lambda a: f"{a.cache.n_generations:,}", lambda a: a.cache.n_generations),
    Column("problems", "problems", _CACHE, lambda a: f"{a.cache.n_problems:,}", lambda a: a.cache.n_problems),
)  # fmt: skip


def arm_columns(levels: Levels, arms: Sequence[ArmSummary]) -> tuple[Column[ArmSummary], ...]:
    """Return the columns of a table of arms: also one for each axis on which these arms differ.

    levels: axis -> mechanism -> level, of arms whose declaration is known.
    """
    found = []
    for axis, of_arm in levels.items():
        if len({of_arm.get(arm.mechanism) for arm in arms}) > 1:
            show = _level(of_arm)
            found.append(Column[ArmSummary](f"axis {axis}", axis.replace("_", " "), _AXES, show, show, in_words=True))
    return (*ARM_COLUMNS, *found)


def _level(of_arm: Mapping[str, str]) -> Callable[[ArmSummary], str]:
    return lambda arm: of_arm.get(arm.mechanism, wording.MISSING)
