"""With nothing evicted, the slot cache gives transformers' own logits."""

from __future__ import annotations

import copy

import pytest
import torch

from designspace.axes import Request
from designspace.engine import Engine
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import MODEL_FAMILIES, toy_model

PROMPT_LENGTHS = (5, 13, 24, 40)
N_NEW = 24


def reference_logits(model: torch.nn.Module, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens and per-step logits of SDPA with a DynamicCache."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("sdpa")
    ids, cache, logits = torch.tensor([prompt]), None, []
    for _ in range(N_NEW):
        output = plain(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits[0, -1])
        ids = logits[-1].argmax().view(1, 1)
    return [int(row.argmax()) for row in logits], torch.stack(logits)


@pytest.mark.parametrize("family", MODEL_FAMILIES)
@pytest.mark.parametrize("window", [None, 16])
def test_logits_equal_sdpa_with_dynamic_cache(family: str, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed prompt lengths in one batch agree with one-by-one SDPA + DynamicCache to 1e-5, sliding windows included."""
    extra = {} if window is None else {"sliding_window": window}
    if window is not None and family == "llama":
        pytest.skip("Llama has no sliding window")
    if window is not None and family.startswith("qwen"):
        extra |= {"use_sliding_window": True, "max_window_layers": 1}
    loaded = toy_model(family, **extra)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(2, 97, (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]
    recorded: list[torch.Tensor] = []
    choose = Greedy.choose
    monkeypatch.setattr(
        Greedy,
        "choose",
        lambda self, logits, uniforms: (recorded.append(logits.clone()), choose(self, logits, uniforms))[1],
    )
    engine = Engine(
        loaded, mechanism("full").override("full", decoding=Greedy()), None,
        rows=len(prompts), max_new_tokens=N_NEW, max_prompt_tokens=max(PROMPT_LENGTHS),
    )  # fmt: skip

    done = {
        g.problem_id: g for g in engine.generate(Request(str(i), tuple(p), bytes(16)) for i, p in enumerate(prompts))
    }

    first, steps = recorded[: len(prompts)], recorded[len(prompts) :]
    for i, prompt in enumerate(prompts):
        tokens, logits = reference_logits(loaded.model, prompt)
        ours = torch.stack([first[i][0], *(step[i] for step in steps)])
        assert (ours - logits).abs().max() <= 1e-5
        assert list(done[str(i)].token_ids) == tokens
