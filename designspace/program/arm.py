"""A mechanism at a budget, ready to run on any model that it can run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from designspace.axes import Artefact, Budget, Decoding, Generation, Mechanism
from designspace.engine import Engine
from designspace.engine.decode_step import StepKind
from designspace.engine.ending import Ending
from designspace.errors import DeclarationError
from designspace.memory.footprint import ArmMemory
from designspace.models.loading import LoadedModel
from designspace.program.arm_arguments import BudgetLike, MechanismLike, budget_of, mechanism_of
from designspace.program.generated_text import GeneratedText, warn_of_budget
from designspace.program.rows_for import rows_for


class Running(NamedTuple):
    """How an engine runs, whatever the arm; each is what `Engine` says of it."""

    step: StepKind = "plain"
    burst: int | None = None
    ending: Ending | None = None
    prefill_chunk: int | None = None


@dataclass(frozen=True)
class Arm:
    """A mechanism that has a decoding, and its budget; None where it takes none."""

    mechanism: Mechanism
    decoding: Decoding
    budget: Budget | None

    @classmethod
    def of(cls, mechanism: MechanismLike, budget: BudgetLike | None, decoding: Decoding) -> Arm:
        """Return the arm that a person means; warns of a budget that changes nothing.

        Raises:
            DesignspaceError: there is none such, or it is one for sweeps only.
        """
        found, tokens = mechanism_of(mechanism, decoding), budget_of(budget)
        chosen = found.decoding or decoding
        if chosen.samples > 1 or chosen.reference is not None:
            why = "votes with a task's grader" if chosen.samples > 1 else "is fed the texts of a task"
            raise DeclarationError(f"mechanism {found.name!r}: decoding {chosen.kind!r} {why}, so it needs a sweep")
        warn_of_budget(found, tokens)
        return cls(found, chosen, tokens if found.cadence.compresses else None)

    def engine(
        self,
        loaded: LoadedModel,
        prompts: Sequence[tuple[int, ...]],
        max_new_tokens: int,
        artefacts: Mapping[str, Artefact],
        *,
        rows: int | None = None,
        running: Running | None = None,
    ) -> Engine:
        """Return an engine for some prompts; rows: None: as many as memory has room for.

        Raises:
            DesignspaceError: the mechanism cannot run on this model at this budget.
        """
        longest, running = max(map(len, prompts)), running or Running()
        if rows is None and len(prompts) > 1:
            memory = ArmMemory(
                loaded,
                self.mechanism,
                self.budget,
                max_new_tokens=max_new_tokens,
                max_prompt_tokens=longest,
                artefacts=artefacts,
                n_prompts=len(set(prompts)),
                prefill_chunk=running.prefill_chunk,
            )
            rows = rows_for(loaded, memory, self.mechanism, self.budget, len(prompts))
        return Engine(
            loaded,
            self.mechanism,
            self.budget,
            rows=rows or 1,
            max_new_tokens=max_new_tokens,
            max_prompt_tokens=longest,
            artefacts=artefacts,
            **running._asdict(),
        )

    def text(self, engine: Engine, ledger: Generation) -> GeneratedText:
        """Return a generation of an engine with its text, which ends before a stop string."""
        text = engine.ends.ending.text(partial(text_of, engine.loaded), ledger.token_ids)
        return GeneratedText(text, ledger.token_ids, ledger.finish_reason, self.mechanism.name, self.budget, ledger)


def text_of(loaded: LoadedModel, token_ids: tuple[int, ...]) -> str:
    """Return the text of tokens, empty where the model has no tokenizer."""
    return "" if loaded.tokenizer is None else loaded.decode(token_ids)
