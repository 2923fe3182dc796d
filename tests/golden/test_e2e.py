"""End-to-end token parity with a slow reference that re-runs the whole sequence under an explicit mask at every step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from designspace.axes import Budget, Generation, Mechanism, Needs, Request, RunContext, Scoring, Selector, View
from designspace.cache.attention import DecodePass
from designspace.cache.packing import CompressionResult, Prompt
from designspace.cache.prefill_pass import PrefillPass
from designspace.cache.slots import SlotCache
from designspace.engine import Engine
from designspace.models.loading import LoadedModel, prepare
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.selectors.top_k import TopK
from tests.conftest import GOLDEN
from tests.golden.cases import golden_files, read


@cache
def golden_model(name: str) -> LoadedModel:
    """Return one of the two golden models."""
    import transformers

    file = GOLDEN / "e2e" / f"{name}.safetensors"
    _, meta = read(file)
    architecture = getattr(transformers, meta["architecture"])
    model = architecture(architecture.config_class(**meta["config"]))
    model.load_state_dict(load_file(file))
    return prepare(model)


@dataclass(frozen=True, eq=False)
class GivenPriority(Scoring):
    """Fixed priorities per position, as the golden cases use."""

    kind: ClassVar[str] = "given-priority"
    selector: Selector = field(default=TopK())
    priorities: Tensor = field(default_factory=lambda: torch.zeros(0), kw_only=True)

    def score(self, view: View) -> Tensor:
        """Look the priority up by position."""
        table = self.priorities[:, None].expand(-1, view.positions.shape[1], -1, -1)
        return table.gather(-1, view.positions.clamp(min=0))


def case_mechanism(tensors: dict[str, Tensor], parameters: dict[str, Any]) -> Mechanism:
    """Return the case's rule as a mechanism."""
    if "every" not in parameters:
        return mechanism("full").override("full", decoding=Greedy())
    cadence = (
        EveryStep(prefill=parameters["evict_after_prefill"])
        if parameters["every"] == 1
        else EveryK(k=parameters["every"], prefill=parameters["evict_after_prefill"])
    )
    length = len(tensors["prompt"]) + parameters["new_tokens"]
    by_position = torch.arange(length).float().expand(*tensors["budgets"].shape, length)
    scoring = GivenPriority(
        priorities=tensors.get("priorities", by_position),
        sinks=parameters["sinks"],
        recent=parameters["protected_recent"],
    )
    return Mechanism("case", scoring, Uniform(), cadence, FullPrecision(), Greedy())


def is_ragged(file: Path) -> bool:
    """Whether each head of the case has a budget of its own."""
    return "ragged" in file.stem


CASES = [p for p in golden_files("e2e") if p.values[0] is None or not p.values[0].stem.startswith("model_")]


@pytest.mark.parametrize("file", [p for p in CASES if p.values[0] is None or not is_ragged(p.values[0])])
def test_engine_reproduces_tokens_and_sizes(file: Path) -> None:
    """Full cache, sinks + recent, and per-head eviction give the reference's tokens and attended sizes."""
    tensors, meta = read(file)
    rule = case_mechanism(tensors, meta["parameters"])
    budget = Budget(int(tensors["budgets"][0, 0]), "nominal") if "budgets" in tensors else None

    generation = run(
        golden_model(meta["model_file"]), rule, budget, tensors["prompt"].tolist(), meta["parameters"]["new_tokens"]
    )

    assert list(generation.token_ids) == tensors["tokens"].tolist()
    if "attended_sizes" in tensors:
        assert list(generation.cache_tokens_per_step) == tensors["attended_sizes"].float().mean(dim=(1, 2)).tolist()


def run(loaded: LoadedModel, rule: Mechanism, budget: Budget | None, prompt: list[int], n_new: int) -> Generation:
    """Generate one row next to two others of other lengths."""
    engine = Engine(loaded, rule, budget, rows=3, max_new_tokens=n_new, max_prompt_tokens=max(len(prompt), 20))
    others = [Request("short", tuple(prompt[:3]), bytes(16)), Request("other", tuple(reversed(prompt)), bytes(16))]
    done = engine.generate([others[0], Request("case", tuple(prompt), bytes(16)), others[1]])
    return next(g for g in list(done) if g.problem_id == "case")


@pytest.mark.parametrize("file", [p for p in CASES if p.values[0] is None or is_ragged(p.values[0])])
def test_slots_hold_a_budget_per_head(file: Path) -> None:
    """Attention over slots with a different share in every head gives the reference's tokens, sizes and residents."""
    tensors, meta = read(file)
    loaded = golden_model(meta["model_file"])
    n_new, prompt = meta["parameters"]["new_tokens"], tensors["prompt"]
    row = torch.tensor([0])
    cache = SlotCache(
        loaded.geometry, FullPrecision(), Needs(), rows=1, capacity=int(tensors["budgets"].max()) + 1,
        dtype=torch.float32, device=torch.device("cpu"), width=len(prompt) + n_new,
    )  # fmt: skip
    prefill = PrefillPass(Needs(), loaded.geometry, len(prompt))
    with torch.inference_mode():
        logits = loaded.model(input_ids=prompt[None], use_cache=False, slots=prefill).logits[:, -1]
        seen = prefill.prompt()
        cache.load(0, seen, cut(seen, tensors, meta["parameters"]), 0)
        tokens, sizes = [int(logits.argmax())], []
        for _ in range(n_new - 1):
            cache.begin_step()
            logits = loaded.model(
                input_ids=torch.tensor([[tokens[-1]]]), position_ids=cache.next_position[:, None], use_cache=False,
                slots=DecodePass(cache),
            ).logits[:, -1]  # fmt: skip
            cache.end_step()
            sizes.append(cache.counts[:, 0].clone())
            view = cache.view(row, RunContext(loaded.geometry, cache.width), torch.zeros(1))
            cache.compact(row, 1, view, cut(view, tensors, meta["parameters"]))
            tokens.append(int(logits.argmax()))

    assert tokens == tensors["tokens"].tolist()
    assert torch.equal(torch.stack(sizes), tensors["attended_sizes"])
    resident = [
        set(cache.positions[layer, 0, head].tolist()) - {-1}
        for layer, head in torch.cartesian_prod(*map(torch.arange, tensors["budgets"].shape))
    ]
    assert resident == [set(x.nonzero()[:, 0].tolist()) for x in tensors["final_resident"].flatten(0, 1)]


def cut(held_now: View | Prompt, tensors: dict[str, Tensor], parameters: dict[str, Any]) -> CompressionResult:
    """Apply the golden cut rule per (layer, head), in plain loops."""
    positions = held_now.positions
    order = torch.arange(positions.shape[-1]).expand(positions.shape).clone()
    counts = (positions >= 0).sum(dim=-1)
    for layer, head in torch.cartesian_prod(torch.arange(positions.shape[0]), torch.arange(positions.shape[2])):
        held = [(int(p), slot) for slot, p in enumerate(positions[layer, 0, head]) if p >= 0]
        budget = int(tensors["budgets"][layer, head])
        if len(held) > budget:
            others = [x for x in held if x[0] >= parameters["sinks"]]
            protected = [x for x in held if x[0] < parameters["sinks"]] + others[
                len(others) - parameters["protected_recent"] :
            ]
            free = [x for x in held if x not in protected]
            free.sort(key=lambda x: -float(tensors["priorities"][layer, head, x[0]]))
            held = sorted(protected + free[: budget - len(protected)])
        slots = [slot for _, slot in held]
        order[layer, 0, head, : len(slots)] = torch.tensor(slots)
        counts[layer, 0, head] = len(slots)
    return CompressionResult(order, counts)


def test_a_row_does_not_change_the_model(toy_llama: LoadedModel) -> None:
    """Generation leaves the weights alone, so one loaded model serves any number of cells."""
    before = copy.deepcopy(toy_llama.model.state_dict())
    run(toy_llama, mechanism("streaming-llm").override("s", decoding=Greedy()), Budget(8), list(range(2, 20)), 8)

    assert all(torch.equal(before[name], weight) for name, weight in toy_llama.model.state_dict().items())
