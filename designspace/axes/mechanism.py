"""A mechanism: one strategy on each of the five axes, under a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from designspace.axes.budget import Budget
from designspace.axes.byte_budget import tokens_for_bytes
from designspace.axes.geometry import Geometry
from designspace.axes.least_score import least_score_errors
from designspace.axes.needs import Needs
from designspace.axes.prompt_block import prompt_block_errors
from designspace.axes.schedule import Schedule
from designspace.axes.strategy import Cadence, Decoding, HeadRouting, Representation, Scoring, Strategy
from designspace.axes.window import WindowShare
from designspace.errors import DeclarationError

AXES = ("representation", "head_routing", "cadence", "decoding", "scoring")


@dataclass(frozen=True)
class Mechanism:
    """One strategy per axis, under a name. `decoding=None` means: as the sweep's generation settings say.

    `choices`: what the published text leaves open or what is done otherwise here, and the parameter that changes it.
    """

    name: str
    scoring: Scoring
    head_routing: HeadRouting
    cadence: Cadence
    representation: Representation
    decoding: Decoding | None = None
    citation: str | None = None
    summary: str = ""
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse compositions that would run but mean nothing.

        Raises:
            DeclarationError: with every reason found.
        """
        reasons = self.composition_errors()
        if reasons:
            raise DeclarationError(f"mechanism {self.name!r}: {reason}" for reason in reasons)

    def composition_errors(self) -> list[str]:
        """Return why this composition is refused; empty when it is legal."""
        reasons = []
        if self.scoring.keeps_everything and self.cadence.compresses:
            reasons.append(
                f"scoring 'full' ranks nothing, so cadence {self.cadence.kind!r} has nothing to cut: use 'never'"
            )
        if not self.scoring.keeps_everything and not self.cadence.compresses:
            reasons.append(f"cadence 'never' makes no event, so scoring {self.scoring.kind!r} would have no effect")
        if not self.cadence.compresses and not self.head_routing.works_without_events:
            reasons.append(
                f"cadence 'never' makes no event, so head routing {self.head_routing.kind!r} would have no effect"
            )
        if not self.cadence.compresses and self.representation.merges:
            reasons.append(
                f"cadence 'never' makes no event, so representation {self.representation.kind!r} would merge nothing"
            )
        if self.scoring.protects_prompt and self.scoring.keeps_everything:
            reasons.append("scoring 'full' keeps every token, so protect: prompt would have no effect")
        elif self.scoring.protects_prompt and not self.cadence.cuts_while_decoding:
            reasons.append(
                f"cadence {self.cadence.kind!r} cuts the prompt alone, and protect: prompt keeps all of it, so nothing is left"
                " to cut"
            )
        if self.scoring.selector.weighs and self.representation.merges:
            reasons.append(
                f"representation {self.representation.kind!r} merges evicted tokens into kept ones, which selector "
                f"{self.scoring.selector.kind!r} lets stand for them already"
            )
        if self.cadence.compresses and not self.representation.evicts:
            reasons.append(f"representation {self.representation.kind!r} keeps every token: use cadence 'never'")
        if self.cadence.least_score is not None:
            reasons.extend(least_score_errors(self))
        if self.cadence.prompt_block is not None:
            reasons.extend(prompt_block_errors(self))
        reasons.extend(
            reason for strategy in self.strategies().values() if (reason := strategy.conflict_reason(self)) is not None
        )
        return reasons

    def idle_axes(self, schedule: Schedule, geometry: Geometry | None = None) -> dict[str, str]:
        """Return the axes whose strategy changes nothing, or next to nothing, here, and why; empty where all count.

        schedule: as `bind` returns it. geometry: of the model; None where it is not known yet.
        """
        parts: dict[str, Strategy] = {**self.strategies(), "selector": self.scoring.selector}
        found = {axis: part.idle_reason(self, schedule, geometry) for axis, part in parts.items()}
        return {axis: reason for axis, reason in found.items() if reason is not None}

    @property
    def budget_applies(self) -> bool:
        """Whether the budget axis means anything: it is collapsed before hashing when not, so the arm runs once."""
        return self.cadence.compresses and self.cadence.is_matched

    def needs(self) -> Needs:
        """Return the union of what the axes want observed."""
        needs = self.scoring.selector.needs()
        for strategy in self.strategies().values():
            needs = needs | strategy.needs()
        return needs

    def strategies(self) -> dict[str, Strategy]:
        """Return the strategies by axis, leaving out an undeclared decoding."""
        found = {axis: getattr(self, axis) for axis in AXES}
        return {axis: strategy for axis, strategy in found.items() if strategy is not None}

    def identity(self) -> dict[str, Any]:
        """Return the composition as JSON-able data; the name is a label and stays out."""
        return {axis: strategy.identity() for axis, strategy in self.strategies().items()}

    def geometry_errors(self, geometry: Geometry) -> list[str]:
        """Return why this composition cannot run on a model of this geometry; empty when it can."""
        found = [
            strategy.unsupported_reason(geometry) for strategy in (*self.strategies().values(), self.scoring.selector)
        ]
        return [reason for reason in found if reason is not None]

    def bind(
        self,
        budget: Budget | None,
        geometry: Geometry | None = None,
        dtype: torch.dtype = torch.float32,
        owners: tuple[int, ...] | None = None,
        *,
        longest_prompt: int = 0,
    ) -> Schedule:
        """Return the cadence's schedule for this budget, checked against what the scoring protects.

        A budget in bytes is turned into tokens for a model's geometry, cache type and shared layers; without a geometry it
        is taken for as many tokens, which is what full precision makes of it. longest_prompt: in tokens, where it is known;
        it must fit if the prompt is protected.

        Raises:
            InfeasibleBudget: the cadence cannot hold the budget.
            DeclarationError: the protected tokens alone would fill it, or a budget is missing.
        """
        if budget is None and self.budget_applies:
            raise DeclarationError(f"mechanism {self.name!r} compresses, so it needs a budget")
        if budget is not None and not self.cadence.is_matched:
            raise DeclarationError(
                f"mechanism {self.name!r} takes no budget, as the cache of cadence {self.cadence.kind!r} follows from the "
                f"text, got {budget}"
            )
        if budget is not None and self.decoding is not None:
            budget = self.decoding.sample_budget(budget)
        if budget is not None and budget.of == "bytes":
            budget = self.in_tokens(budget, geometry, dtype, owners)
        schedule = self.cadence.schedule(budget or Budget(1, "nominal"))
        if budget is not None and budget.prompt and self.budget_applies:
            self._check_parts(budget, schedule)
        if self.cadence.compresses:
            self._check_room(schedule, longest_prompt, "" if budget is None else f" (budget {budget})")
        return schedule

    def _check_room(self, schedule: Schedule, longest_prompt: int, at: str) -> None:
        """Check that an event leaves more than what the scoring protects; `at`: the budget, for messages.

        Raises:
            DeclarationError: it does not.
        """
        scoring, size = self.scoring, schedule.smallest_size(longest_prompt)
        if scoring.protects_prompt and scoring.n_protected(size, longest_prompt) >= size:
            raise DeclarationError(
                "protect: prompt needs an after-event size above the longest prompt + recent, got a prompt of "
                f"{longest_prompt} tokens, recent={scoring.n_recent(size)}, after-event size={size}{at}: "
                f"{scoring.n_protected(size, longest_prompt) + 1 - size} tokens too few"
            )
        size = schedule.low
        if scoring.n_protected(size) >= size:
            share = f" ({scoring.recent})" if isinstance(scoring.recent, WindowShare) else ""
            raise DeclarationError(
                f"sinks + recent must be smaller than the after-event size, got sinks={scoring.sinks}, "
                f"recent={scoring.n_recent(size)}{share}, after-event size={size}{at}"
            )

    def prompt_slots(self, budget: Budget | None) -> int:
        """Return the slots per head, on average, that the prompt's tokens compete for among themselves; 0: no such part."""
        if budget is None or not self.budget_applies:
            return 0
        return (budget if self.decoding is None else self.decoding.sample_budget(budget)).prompt

    def _check_parts(self, budget: Budget, schedule: Schedule) -> None:
        """Refuse a budget in two parts that this composition cannot keep apart.

        Raises:
            DeclarationError: with the first reason.
        """
        reason, n_recent = None, self.scoring.n_recent(schedule.low)
        if self.scoring.protects_prompt:
            reason = "protect: prompt keeps the whole prompt, so none of it competes for slots"
        elif not self.cadence.cuts_while_decoding:
            reason = f"cadence {self.cadence.kind!r} cuts the prompt alone, so the trace competes for nothing"
        elif not self.head_routing.divisible:
            reason = f"head routing {self.head_routing.kind!r} says itself which part of the text some heads hold"
        elif not self.representation.keeps_choice:
            reason = f"representation {self.representation.kind!r} chooses slots itself, whichever part they are of"
        elif self.scoring.sinks > budget.prompt:
            reason = f"the sinks must fit the prompt's slots, got sinks={self.scoring.sinks}"
        elif budget.prompt + n_recent >= schedule.low:
            reason = (
                f"an event must leave the trace a slot beside its window, got recent={n_recent} and an after-event size of "
                f"{schedule.low}: {budget.prompt + n_recent + 1 - schedule.low} tokens too few"
            )
        if reason is not None:
            raise DeclarationError(f"budget {budget}: {reason}")

    def in_tokens(
        self, budget: Budget, geometry: Geometry | None, dtype: torch.dtype, owners: tuple[int, ...] | None = None
    ) -> Budget:
        """Return the mean budget in tokens that a budget in bytes comes to on a model.

        Raises:
            InfeasibleBudget: no number of tokens fits.
        """
        if geometry is None:
            return Budget(budget.tokens)
        weighted = self.scoring.selector.weighs
        return tokens_for_bytes(self.cadence, self.representation, budget, geometry, dtype, owners, weighted=weighted)

    def override(self, name: str, **axes: Any) -> Mechanism:
        """Return this mechanism under another name with some axes replaced."""
        return replace(self, name=name, summary=f"{self.name} with another {', '.join(axes)}", **axes)
