"""One arm on one model that writes whatever a harness asks for, some rows at a time.

What is asked for in the same way goes through one engine: same cap, same sampling, same stop strings, and prompts of the same
class of lengths. So an engine's shapes follow from a request alone, and a text does not depend on what else was asked for, nor
on when.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from designspace.axes import Budget, Decoding, Request
from designspace.engine import Engine
from designspace.engine.ending import Ending
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState
from designspace.errors import DeclarationError
from designspace.program.arm import Arm
from designspace.program.arm_arguments import BudgetLike, MechanismLike, decoding_at
from designspace.program.calibrations import CalibrateOn, artefacts_of
from designspace.program.generate import check_counts
from designspace.program.generated_text import GeneratedText
from designspace.program.load import load
from designspace.program.prompt_arguments import stream_of

_SHORTEST = 128  # tokens of the first class of prompts; the others are twice as long each


class Kind(NamedTuple):
    """What requests have in common that go through one engine."""

    max_prompt_tokens: int
    max_new_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Order:
    """One text to write. stop: it ends before the first of these strings. seed: of its random numbers."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @property
    def kind(self) -> Kind:
        """The engine that it goes through."""
        longest = _SHORTEST
        while longest < len(self.prompt_ids):
            longest *= 2
        return Kind(longest, self.max_new_tokens, self.temperature, self.top_p, tuple(filter(None, self.stop)))


class TextService:
    """Keeps the model and the last engine. Not for several threads at once."""

    def __init__(
        self,
        model: Any,
        mechanism: MechanismLike = "full",
        budget: BudgetLike | None = None,
        *,
        tokenizer: Any = None,
        rows: int = 16,
        device: str | None = None,
        dtype: Any = None,
        calibrate_on: CalibrateOn | None = None,
    ) -> None:
        """The arguments are those of `designspace.load` and `designspace.generate`.

        Raises:
            DesignspaceError: there is no such model or mechanism, or it needs what is not there.
        """
        check_counts(rows=rows)
        self.rows, self._declared = rows, (mechanism, budget)
        self.arm = self._arm(decoding_at(0.0, 1.0))
        self.loaded = load(model, tokenizer, device=device, dtype=dtype)
        if self.loaded.tokenizer is None:
            raise DeclarationError("a harness asks for texts, so the model needs a tokenizer")
        self._artefacts = artefacts_of(self.loaded, self.arm.mechanism, calibrate_on)
        self._seen: Counter[tuple[int, tuple[int, ...]]] = Counter()
        self._engine: tuple[Kind, Arm, Engine] | None = None

    def check(self, order: Order) -> None:
        """Check that a text can be written.

        Raises:
            DeclarationError: its prompt is empty, or with the cap it is longer than the model's longest text.
        """
        n_prompt, longest = len(order.prompt_ids), self.loaded.longest
        if n_prompt == 0:
            raise DeclarationError("a prompt must have at least one token, got an empty one")
        if longest is not None and n_prompt + order.max_new_tokens > longest:
            raise DeclarationError(
                f"a text of this model may have {longest:,} positions, got a prompt of {n_prompt:,} tokens and a cap of "
                f"{order.max_new_tokens:,} more"
            )

    def write(self, orders: deque[Order]) -> Iterator[tuple[Order, GeneratedText]]:
        """Yield each text as it ends, until there are no more orders. More may be appended meanwhile, by another thread too."""
        while orders:
            yield from self._write_kind(orders[0].kind, orders)

    def _write_kind(self, kind: Kind, orders: deque[Order]) -> Iterator[tuple[Order, GeneratedText]]:
        arm, engine = self._engine_for(kind)
        queue: deque[Request] = deque()
        asked: dict[str, Order] = {}

        def take() -> None:
            for _ in range(len(orders)):
                order = orders.popleft()
                if order.kind == kind:
                    name = str(len(asked))
                    asked[name] = order
                    queue.append(self._request(name, order))
                else:
                    orders.append(order)

        take()
        engine.hook = _Taking(take)
        try:
            for ledger in engine.generate(queue):
                yield asked[ledger.problem_id], arm.text(engine, ledger)
                take()
        except BaseException:
            self._engine = None  # it may hold rows
            raise

    def _request(self, name: str, order: Order) -> Request:
        """Return what the engine is asked; a prompt that comes again is another draw."""
        key = (order.seed, order.prompt_ids)
        stream = stream_of(order.prompt_ids, order.seed, self._seen[key])
        self._seen[key] += 1
        return Request(name, order.prompt_ids, stream)

    def _engine_for(self, kind: Kind) -> tuple[Arm, Engine]:
        if self._engine is None or self._engine[0] != kind:
            self._engine = None  # frees the old cache before the new one is allocated
            arm = self._arm(decoding_at(kind.temperature, kind.top_p))
            engine = Engine(
                self.loaded,
                arm.mechanism,
                arm.budget,
                rows=self.rows,
                max_new_tokens=kind.max_new_tokens,
                max_prompt_tokens=kind.max_prompt_tokens,
                artefacts=self._artefacts,
                ending=Ending(kind.stop),
            )
            self._engine = (kind, arm, engine)
        return self._engine[1:]

    def _arm(self, decoding: Decoding) -> Arm:
        return Arm.of(*self._declared, decoding)

    def facts(self) -> dict[str, Any]:
        """Return what a log should say of the arm."""
        budget: Budget | None = self.arm.budget
        return {
            "mechanism": self.arm.mechanism.name,
            "strategies": self.arm.mechanism.identity(),
            "budget": None if budget is None else str(budget),
            "rows": self.rows,
        }


def account(text: GeneratedText) -> dict[str, Any]:
    """Return what a log should say of one text's cache."""
    ledger = text.ledger
    return {
        "n_prompt_tokens": ledger.n_prompt_tokens,
        "n_new_tokens": ledger.n_new_tokens,
        "finish_reason": ledger.finish_reason,
        "n_events": ledger.n_events,
        "mean_cache_tokens": ledger.mean_cache_tokens,
        "peak_cache_tokens": ledger.peak_cache_tokens,
        "mean_cache_bytes": ledger.mean_cache_bytes,
        "prompt_survival": ledger.prompt_survival_mean,
    }


class _Taking(EngineHook):
    """Takes in after every burst what has been ordered meanwhile."""

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = take

    def on_written(self, states: Collection[RowState]) -> None:
        """Take in the new orders."""
        self._take()
