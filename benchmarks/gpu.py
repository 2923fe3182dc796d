"""Check one CUDA device in a few minutes, and write what was found as one Markdown file.

    make gpu    (here, to fetch what a bare machine lacks; then there)
    python -m benchmarks.gpu [--out build/gpu.md] [--minutes 8] [--shape 7b] [--rows 32] [--tokens 256]

Exactness: the full cache writes transformers' own greedy texts, plain and captured steps the same texts, and a text does not
depend on its batch-mates. Speed, on a random model of 7 B weights in bfloat16 that is made on the device: tokens per second
against `generate` at the same batch, and how near a step is to what the device can do. Memory: the peak against what is
stated before anything runs. What does not begin in the minutes given is named, not left out. The exit code is 1 where a
check failed; without a device nothing is checked, and the file says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.arm import arm
from benchmarks.engine_side import measured, new_engine, without_end
from benchmarks.measured import figure, machine, percent, table, versions
from benchmarks.random_model import SHAPES, configuration
from designspace.axes import Budget, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.cache.attention import IMPLEMENTATION
from designspace.engine import Engine
from designspace.engine.decode_step import STEP_KINDS, StepKind
from designspace.engine.speed import measure
from designspace.memory.footprint import ArmMemory
from designspace.models.loading import LoadedModel, load_model, prepare
from designspace.models.model_spec import ModelSpec

POCKET = "pocket-llama"
ARMS = ("full", "streaming-llm", "snapkv", "h2o", "r-kv", "triattention", "alpha", "kivi")
PROMPTS = (30, 24, 33, 9, 21, 28, 12, 17)  # tokens, of the texts that exactness is looked at
_OFTEN, _USUALLY = 8, 32  # steps from event to event, of arms that cut: for exactness, and for speed


@dataclass(frozen=True)
class Setting:
    """What is measured. `rows`, `prompt`, `tokens`: of the throughput; `budget`: slots per head, of the arms that cut."""

    device: str
    shape: str
    rows: int
    prompt: int
    tokens: int
    budget: int


@dataclass(frozen=True)
class Check:
    """A section of the report: Markdown lines, and whether all in it is as it must be."""

    lines: list[str]
    holds: bool = True


def full_cache(setting: Setting) -> Check:
    """Hold the full cache's texts, in float32, against those of transformers' `generate`."""
    loaded = without_end(load_model(ModelSpec.bundled(POCKET), setting.device))
    requests = _requests(loaded, PROMPTS)
    ours = _texts(_engine(loaded, "full", "plain"), requests)
    theirs = {r.problem_id: _generate(loaded, [r.prompt_ids], 64)[0] for r in requests}
    alike = sum(a == b for name in ours for a, b in zip(ours[name], theirs[name], strict=True))
    n_tokens = sum(map(len, theirs.values()))
    return Check([f"{alike} of {n_tokens} tokens are those of `generate`, float32."], alike == n_tokens)


def invariance(setting: Setting) -> Check:
    """Write texts one by one, all together, and all together in captured steps."""
    rows: list[Sequence[object]] = []
    for dtype in ("float32", "bfloat16"):
        loaded = without_end(load_model(ModelSpec.bundled(POCKET, dtype=dtype), setting.device))
        requests = _requests(loaded, PROMPTS)
        for name in ARMS:
            texts = {step: _texts(_engine(loaded, name, step), requests) for step in STEP_KINDS}
            turned = {step: _texts(_engine(loaded, name, step), requests[::-1]) for step in STEP_KINDS}
            alone = {r.problem_id: _texts(_engine(loaded, name, "plain"), [r])[r.problem_id] for r in requests}
            seen = [alone == texts["plain"], *(texts[step] == turned[step] for step in STEP_KINDS)]
            rows.append([f"`{name}`, {dtype}", *("same" if same else "**differs**" for same in seen)])
    header = ("texts", "alone and together", "in another order, plain", "in another order, compiled")
    return Check([*table(header, rows)], not any("**differs**" in row for row in rows))


def throughput(setting: Setting) -> Check:
    """Measure tokens per second of a large random model, ours and `generate`'s, one after the other."""
    loaded = _large(setting)
    prompts = [list(r.prompt_ids) for r in _requests(loaded, [setting.prompt] * setting.rows)]
    _generate(loaded, prompts, 8)
    started_s = time.perf_counter()
    _generate(loaded, prompts, setting.tokens)
    theirs = setting.rows * setting.tokens / (time.perf_counter() - started_s)
    rows: list[Sequence[object]] = [["`generate`, full cache", figure(theirs), "", "", ""]]
    for name in ("full", "snapkv", "triattention", "alpha"):
        for step in STEP_KINDS:
            speed = measure(lambda: _sized(loaded, name, setting, step), n_runs=1, prompt_tokens=setting.prompt)  # noqa: B023
            ratio, floor = speed.tokens_per_s / theirs, percent(speed.floor_share)
            events = percent(speed.time_shares["events"])
            rows.append([f"`{name}`, {step}", figure(speed.tokens_per_s), f"{ratio:.2f}", floor, events])
    return Check([*table(("arm", "tokens/s", "over `generate`", "share of the floor", "time in events"), rows)])


def memory(setting: Setting) -> Check:
    """Hold the peak of allocated memory against what is stated."""
    if torch.device(setting.device).type != "cuda":
        return Check(["**Not run**: the peak of allocated memory is known of CUDA devices only."])
    loaded = _large(setting)
    rows: list[Sequence[object]] = []
    for name in ("full", "snapkv", "alpha"):
        engine = _sized(loaded, name, setting, "plain")
        stated = ArmMemory(
            loaded, engine.mechanism, _budget(engine.mechanism, setting.budget), max_new_tokens=setting.tokens,
            max_prompt_tokens=setting.prompt, artefacts=_artefacts(loaded, engine.mechanism),
        ).at(setting.rows)  # fmt: skip
        del engine
        before, peak = _peak(setting, lambda: _sized(loaded, name, setting, "plain"))  # noqa: B023
        ratio = (peak - before) / (stated.cache + stated.workspace)
        rows.append(
            [f"`{name}`", figure((peak - before) / 2**20), figure((stated.cache + stated.workspace) / 2**20), ratio]
        )
    lines = [*table(("arm", "peak, MiB", "stated, MiB", "ratio"), [[*row[:3], f"{row[3]:.2f}"] for row in rows])]
    return Check(lines, all(float(str(row[3])) <= 1.15 for row in rows))


SECTIONS: Mapping[str, Callable[[Setting], Check]] = {
    "The full cache is transformers'": full_cache,
    "A text does not depend on its batch": invariance,
    "Speed of a large model": throughput,
    "Memory, stated and taken": memory,
}


def report(setting: Setting, minutes: float) -> Iterator[tuple[str, bool]]:
    """Yield the parts of the file, each with whether it is as it must be."""
    yield f"# A CUDA device, checked\n\n{_where(setting)}. {versions()}.", True
    started_s = time.monotonic()
    for title, section in SECTIONS.items():
        yield f"## {title}\n", True
        if time.monotonic() - started_s > 60 * minutes:
            yield f"**Not run**: the {minutes:g} minutes were over.", True
            continue
        began_s = time.monotonic()
        try:
            found = section(setting)
        except Exception as error:  # the other sections are worth having
            found = Check(
                [f"**Failed**: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"], False
            )
        verdict = "As it must be" if found.holds else "**Not as it must be**"
        yield "\n".join([*found.lines, "", f"{verdict}; {time.monotonic() - began_s:.0f} s."]), found.holds


def _where(setting: Setting) -> str:
    if torch.device(setting.device).type != "cuda":
        return machine()
    found = torch.cuda.get_device_properties(setting.device)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB; {machine()}"


def _large(setting: Setting) -> LoadedModel:
    """Return the large model, made on the device; its texts end at their limit."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    shape = SHAPES[setting.shape]
    with torch.device(setting.device):
        model = AutoModelForCausalLM.from_config(configuration(shape), dtype=getattr(torch, shape.dtype))
    # A name of its own and no folder: calibrations are measured on the spot.
    return without_end(replace(prepare(model), spec=ModelSpec(f"random-{setting.shape}", path="/nowhere")))


def _engine(loaded: LoadedModel, name: str, step: StepKind) -> Engine:
    return _new(loaded, name, step, _OFTEN, rows=4, n_new=64, n_prompt=max(PROMPTS), budget=36)


def _sized(loaded: LoadedModel, name: str, setting: Setting, step: StepKind) -> Engine:
    options = {"rows": setting.rows, "n_new": setting.tokens, "n_prompt": setting.prompt, "budget": setting.budget}
    return _new(loaded, name, step, _USUALLY, **options)


def _new(
    loaded: LoadedModel, name: str, step: StepKind, interval: int, *, rows: int, n_new: int, n_prompt: int, budget: int
) -> Engine:
    made = arm(name, interval)
    options: dict[str, Any] = {"rows": rows, "max_new_tokens": n_new, "max_prompt_tokens": n_prompt, "step": step}
    return new_engine(loaded, made, _budget(made, budget), **options)


def _budget(made: Mechanism, tokens: int) -> Budget | None:
    return Budget(tokens, "nominal") if made.budget_applies else None


def _artefacts(loaded: LoadedModel, made: Mechanism) -> dict[str, Any]:
    return {name: measured(loaded, name) for name in made.needs().calibrations}


def _requests(loaded: LoadedModel, lengths: Sequence[int]) -> list[Request]:
    random = torch.Generator().manual_seed(3)
    n_words = loaded.model.get_input_embeddings().weight.shape[0]
    prompts = [tuple(torch.randint(4, n_words, (length,), generator=random).tolist()) for length in lengths]
    return [Request(str(i), ids, stream_key(7, str(i), 0)) for i, ids in enumerate(prompts)]


def _texts(engine: Engine, requests: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    return {done.problem_id: done.token_ids for done in engine.generate(requests)}


def _generate(loaded: LoadedModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[tuple[int, ...]]:
    """Return the texts of transformers' `generate`, prompts of one length, with its own attention and full cache."""
    model = loaded.model
    model.set_attn_implementation("sdpa")
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    try:
        given = torch.tensor(prompts, device=loaded.device)
        with torch.inference_mode():
            written = model.generate(
                given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=tokens
            )
        return [tuple(row) for row in written[:, given.shape[1] :].tolist()]
    finally:
        model.set_attn_implementation(IMPLEMENTATION)


def _peak(setting: Setting, build: Callable[[], Engine]) -> tuple[int, int]:
    """Return the bytes allocated on the device before an engine is made, and the most while it runs."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(setting.device)
    before = torch.cuda.memory_allocated(setting.device)
    engine = build()
    _texts(engine, _requests(engine.loaded, [setting.prompt] * setting.rows))
    return before, torch.cuda.max_memory_allocated(setting.device)


def main(argv: list[str] | None = None) -> int:
    """Check, write after every part, and return 1 where a check failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("build/gpu.md"))
    options.add_argument("--minutes", type=float, default=8)
    options.add_argument("--device", default="cuda", help="cpu: the same checks without a GPU, to see that they run")
    options.add_argument("--shape", choices=SHAPES, default="7b")
    options.add_argument("--rows", type=int, default=32)
    options.add_argument("--prompt", type=int, default=128)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--budget", type=int, default=128)
    given = options.parse_args(argv)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        text = f"# A CUDA device, checked\n\n**Skipped**: torch {torch.__version__} sees no CUDA device here.\n"
        given.out.write_text(text, encoding="utf-8")
        print(text)
        return 0
    setting = Setting(given.device, given.shape, given.rows, given.prompt, given.tokens, given.budget)
    parts, failed = [], False
    for part, holds in report(setting, given.minutes):
        parts.append(part)
        failed |= not holds
        print(part, flush=True)
        given.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
