"""A model's own `generate` with a compressed cache, within a `with` block."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor

from designspace.axes import Generation
from designspace.engine.fed_engine import FedEngine
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.program.arm import Arm
from designspace.program.arm_arguments import BudgetLike, MechanismLike, decoding_at
from designspace.program.borrowed import attending, tried_out
from designspace.program.calibrations import CalibrateOn, artefacts_of
from designspace.program.compressed_model import CompressedLoop
from designspace.program.generated_text import account_words, warn_of_no_event
from designspace.program.load import check_in_memory
from designspace.program.prompt_arguments import requests_for


def compress(
    model: Any,
    mechanism: MechanismLike,
    budget: BudgetLike | None = None,
    *,
    tokenizer: Any = None,
    seed: int = 0,
    calibrate_on: CalibrateOn | None = None,
) -> Compression:
    """Return a context within which `model.generate(...)` of transformers runs with a compressed cache.

    Inside of it, `generate` takes a batch that is padded on the left, chooses by greedy search or sampling with transformers'
    own settings, processors and streamers, and returns what it always returns. Its greedy tokens are those that `Engine`
    writes. What would mean something else with a compressed cache is refused by name. Outside of `generate` the model is as it
    was, and after the block, or an error in it, `generate` is too.

    Args:
        model: a causal language model of transformers; or what `load` has returned, to be tried out only once.
        mechanism: a name of the catalogue, a `Mechanism`, or a mapping such as an entry of a sweep's `mechanisms`.
        budget: mean tokens per layer and KV head, a `Budget`, or a mapping such as `{"prompt": 64, "trace": 64}`.
        tokenizer: the model's; needed by mechanisms that look at the text, and by `calibrate_on`.
        seed: of mechanisms that draw which tokens they keep; sampling uses torch's generator, as ever.
        calibrate_on: a text file, or texts, to measure on what the mechanism needs measured.

    Raises:
        UnknownName: no such mechanism; the message names the nearest.
        DeclarationError: an argument means nothing, or the mechanism chooses tokens itself.
        ModelError: no model of transformers; or, in the `with` statement, of a kind that the slot cache does not support.
    """
    hf_model = model.model if isinstance(model, LoadedModel) else model
    check_in_memory(hf_model)
    greedy = decoding_at(0.0, 1.0)
    arm = Arm.of(mechanism, budget, greedy)
    if arm.decoding != greedy:
        raise DeclarationError(
            f"mechanism {arm.mechanism.name!r} writes its texts by decoding {arm.decoding.kind!r}, but in a model's own"
            " generate() transformers chooses the tokens: use designspace.generate"
        )
    loaded = model if isinstance(model, LoadedModel) else None
    return Compression(hf_model, arm, loaded, tokenizer, seed, calibrate_on)


class Compression:
    """What `compress` returns: a context, and after each `generate` the account of its texts."""

    def __init__(
        self,
        model: Any,
        arm: Arm,
        loaded: LoadedModel | None,
        tokenizer: Any,
        seed: int,
        calibrate_on: CalibrateOn | None,
    ) -> None:
        self._model, self._arm, self._loaded, self._tokenizer = model, arm, loaded, tokenizer
        self._seed, self._calibrate_on = seed, calibrate_on
        self._ledger: tuple[Generation, ...] = ()

    @property
    def ledger(self) -> tuple[Generation, ...]:
        """The account of each row's cache in the last `generate`, in the rows' order; empty before the first one."""
        return self._ledger

    def __repr__(self) -> str:
        """Return the mechanism and, of each text of the last `generate`, its account in words."""
        arm = self._arm
        at = "" if arm.budget is None else f" at budget {arm.budget}"
        accounts = "; ".join(account_words(one) for one in self._ledger)
        return f"<compression by {arm.mechanism.name}{at}: {accounts or 'nothing generated yet'}>"

    def __enter__(self) -> Compression:
        """Put our `generate` in the place of the model's.

        Raises:
            DeclarationError: the model is within such a block already.
            DesignspaceError: the mechanism cannot run on the model, or needs what is not there.
        """
        if isinstance(getattr(self._model.__dict__.get("generate"), "__self__", None), Compression):
            raise DeclarationError("this model's cache is being compressed already: leave that block first")
        if self._loaded is None:
            self._loaded = tried_out(self._model, self._tokenizer)
        with attending(self._model):  # whatever is measured is measured on the model as it will run
            self._artefacts = artefacts_of(self._loaded, self._arm.mechanism, self._calibrate_on)
            self._check()
        self._former = self._model.__dict__.get("generate")
        self._model.generate = self._generate
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the model its own `generate` back."""
        if self._former is None:
            del self._model.generate
        else:
            self._model.generate = self._former

    def _check(self) -> None:
        """Refuse now, not at the first prompt, what cannot run: an engine of the smallest size tells."""
        assert self._loaded is not None
        FedEngine(self._arm.engine(self._loaded, [(0,)], 1, self._artefacts, rows=1), frozenset())

    def _generate(self, *arguments: Any, **options: Any) -> Any:
        """Generate as transformers does, with the compressed cache."""
        loop = CompressedLoop(self._model, self._begin)
        self._ledger = ()
        with attending(self._model):
            found = loop.run(arguments, options)
        self._ledger = loop.ledgers
        warn_of_no_event(self._arm.mechanism, self._arm.budget, self._ledger)
        return found

    def _begin(
        self, prompts: list[tuple[int, ...]], max_new_tokens: int, eos_ids: frozenset[int]
    ) -> tuple[FedEngine, Tensor]:
        assert self._loaded is not None
        engine = self._arm.engine(self._loaded, prompts, max_new_tokens, self._artefacts, rows=len(prompts))
        fed = FedEngine(engine, eos_ids)
        return fed, fed.begin(requests_for(prompts, self._seed))
