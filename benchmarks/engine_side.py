"""The engine, and transformers' own `generate` in the same process, asked through JSON lines."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from benchmarks import resident
from benchmarks.arm import arm as named_arm
from benchmarks.json_lines import serve
from benchmarks.products import step_products
from designspace.axes import Artefact, Budget, Generation, Mechanism, Request
from designspace.engine import Engine
from designspace.engine.speed import PartClock, floor_s, measure_machine
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus, load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import calibration


def new_engine(loaded: LoadedModel, mechanism: Mechanism, budget: Budget | None, **options: Any) -> Engine:
    """Return an engine whose mechanism has what it needs measured; `options` are the engine's own."""
    artefacts = {name: measured(loaded, name) for name in mechanism.needs().calibrations}
    return Engine(loaded, mechanism, budget if mechanism.budget_applies else None, artefacts=artefacts, **options)


def measured(loaded: LoadedModel, name: str) -> Artefact:
    """Return the model's artefact, or one measured on the spot on a few random texts: its cost does not depend on it."""
    assert loaded.spec is not None
    try:
        return load_artefact(loaded.spec, name)
    except CalibrationError:
        generator = torch.Generator().manual_seed(0)
        texts = torch.randint(4, loaded.model.config.vocab_size, (4, 64), generator=generator).tolist()
        corpus = Corpus(tuple(map(tuple, texts)), tuple(tuple(text[:16]) for text in texts), "random tokens")
        with torch.inference_mode():
            return Artefact(name, calibration(name)(loaded, corpus))


def without_end(loaded: LoadedModel) -> LoadedModel:
    """Return the model with its end-of-text token ignored, so that every text has the length asked for."""
    return replace(loaded, eos_ids=frozenset())


def requests(loaded: LoadedModel, prompts: list[str], limit: int | None = None) -> list[Request]:
    """Return one request per prompt."""
    encoded = [loaded.encode(prompt) for prompt in prompts]
    return [Request(str(idx), ids, idx.to_bytes(16, "little"), limit) for idx, ids in enumerate(encoded)]


class EngineSide:
    """A loaded model with one engine per arm, and the same model under transformers' own attention."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._written: dict[str, list[Generation]] = {}
        self._without_engine = 0
        self._plain: Any = None

    def load(self, path: str, dtype: str, threads: int, device: str = "cpu") -> dict[str, Any]:
        """Load a model for the engine."""
        torch.set_num_threads(threads)
        self._spec = ModelSpec("benchmark", path=path, dtype=dtype)  # type: ignore[arg-type]
        self._device = device
        self._loaded = without_end(load_model(self._spec, device))
        for weight in self._loaded.model.parameters():
            weight.sum()  # weights are read from a mapped file when first used, and would look like memory of a run
        return {}

    def engine(
        self,
        arm: str,
        budget: int,
        interval: int,
        rows: int,
        tokens: int,
        prompts: list[str],
        step: str,
        warm_up: int | None = None,
    ) -> dict[str, Any]:
        """Make an engine and do a first short run; answer with the seconds of both together.

        warm_up: new tokens of that run; None: as many as it takes to have an event in it.
        """
        self._without_engine = resident.resident()
        started_s = time.perf_counter()
        lengths = [len(self._loaded.encode(prompt)) for prompt in prompts]
        engine = new_engine(
            self._loaded,
            named_arm(arm, interval),
            Budget(budget, "nominal"),
            rows=rows,
            max_new_tokens=tokens,
            max_prompt_tokens=max(lengths),
            step=step,
        )
        self._engines[arm] = engine
        first_event = (max(0, budget - min(lengths)) // interval + 1) * interval
        self.run(arm, prompts, min(tokens, warm_up or first_event + 4))
        return {"setup_s": time.perf_counter() - started_s}

    def run(self, arm: str, prompts: list[str], tokens: int) -> dict[str, Any]:
        """Write one text per prompt; answer with seconds, of which in events, tokens, memory, and the first text.

        step_s: of one decode step of all rows, without events and prompts. process_bytes: the most main memory that the process
        held in this run; grown_bytes: over what it held before its engine was made. allocated_bytes: of all slots; held_bytes:
        of those in use, as the ledger has them, at each text's largest cache.
        """
        engine = self._engines[arm]
        engine.hook = clock = PartClock(self._loaded.device, ("events", "prefill"))
        n_before = engine.n_steps
        resident.begin_peak()
        started_s = time.perf_counter()
        written = list(engine.generate(requests(self._loaded, prompts, tokens)))
        wall_s = time.perf_counter() - started_s
        self._written[arm] = written
        process_bytes = resident.peak()
        first = next(generation for generation in written if generation.problem_id == "0")
        return {
            "wall_s": wall_s,
            "event_s": clock.spent_s["events"],
            "step_s": (wall_s - sum(clock.spent_s.values())) / max(1, engine.n_steps - n_before),
            "process_bytes": process_bytes,
            "grown_bytes": process_bytes - self._without_engine,
            "allocated_bytes": engine.cache.store.allocated_bytes(),
            "held_bytes": sum(generation.peak_cache_bytes for generation in written),
            "tokens": sum(generation.n_new_tokens for generation in written),
            "n_events": sum(generation.n_events for generation in written),
            "text": self._loaded.decode(first.token_ids),
        }

    def floor(self, arm: str) -> dict[str, Any]:
        """Answer with what a decode step of the last run must take: its products by themselves, and the machine's limits."""
        engine = self._engines[arm]
        machine = measure_machine(self._loaded.device, self._loaded.dtype)
        products = step_products(self._loaded.model, engine.rows)
        return {
            "products_s": products.seconds,
            "flop_per_s": products.flop_per_s,
            "peak_flop_per_s": machine.flop_per_s,
            "floor_s": floor_s(engine, machine, self._written[arm]),
        }

    def generate(self, prompts: list[str], tokens: int) -> dict[str, Any]:
        """Write one text per prompt with transformers' `generate` and its full cache, all in one batch.

        Prompts are read as the engine reads them, in the chat template where there is one.
        """
        if self._plain is None:
            self._plain = _plain_model(self._spec, self._device)
        tokenizer = self._loaded.tokenizer
        tokenizer.padding_side = "left"
        started_s, held = time.perf_counter(), resident.begin_peak()
        ids = {"input_ids": [list(self._loaded.encode(prompt)) for prompt in prompts]}
        batch = tokenizer.pad(ids, return_tensors="pt").to(self._device)
        written = self._plain.generate(**batch, do_sample=False, max_new_tokens=tokens).cpu()
        wall_s = time.perf_counter() - started_s
        n_new = written.shape[1] - batch["input_ids"].shape[1]
        assert n_new == tokens, f"generate must not stop early, got {n_new} of {tokens} tokens"
        return {"wall_s": wall_s, "tokens": n_new * len(prompts), "grown_bytes": resident.peak() - held}


def _plain_model(spec: ModelSpec, device: str) -> Any:
    """Return the model as transformers runs it: SDPA, DynamicCache, no end-of-text token."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(
        spec.path, dtype=getattr(torch, spec.dtype), attn_implementation="sdpa"
    )
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.to(device).eval()


if __name__ == "__main__":
    side = EngineSide()
    answers = {
        "load": side.load,
        "engine": side.engine,
        "run": side.run,
        "floor": side.floor,
        "generate": side.generate,
    }
    serve(answers)
