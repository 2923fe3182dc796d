"""The full cache writes what transformers' own `generate` writes, token for token, on every real model that is here.

Models are folders in `DESIGNSPACE_REAL_MODELS` (build/models, where `make real` puts one). In float32 no token may differ
unless the two best logits are a tie to float32's rounding; in bfloat16, whose rounding moves logits by percents, a text may
part from the reference where the two best are closer than that. What differs is counted and printed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from designspace.axes import Request
from designspace.engine import Engine
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.decoding.greedy import Greedy
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.real
ROOT = Path(os.environ.get("DESIGNSPACE_REAL_MODELS", REPOSITORY / "build/models"))
FOLDERS = sorted(file.parent for file in ROOT.glob("*/config.json")) if ROOT.is_dir() else []
N_PROMPTS, N_NEW_TOKENS = 16, 64
# Between the two best logits, in logits: what rounding may turn around.
TIE = {"float32": 1e-3, "bfloat16": 0.5}


def models() -> list[Any]:
    """Return the folders to try, or a reason why there are none."""
    if not FOLDERS:
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=f"no model folders in {ROOT}"))]
    return [pytest.param(folder, id=folder.name) for folder in FOLDERS]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Literal["float32", "bfloat16"]:
    """The number type of weights and cache."""
    found: Literal["float32", "bfloat16"] = request.param
    return found


@pytest.fixture(scope="module", params=models())
def loaded(request: pytest.FixtureRequest, dtype: Literal["float32", "bfloat16"]) -> LoadedModel:
    """A real model, as a run loads it."""
    return load_model(ModelSpec(request.param.name, path=str(request.param), dtype=dtype))


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """The first problems of the smoke sweep, of several lengths, as the model reads them."""
    lines = (REPOSITORY / "sweeps/real-smoke.jsonl").read_text(encoding="utf-8").splitlines()[:N_PROMPTS]
    texts = [json.loads(line)["problem"] for line in lines]
    return [loaded.encode(text[: len(text) - 7 * (i % 3)]) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def reference(loaded: LoadedModel, prompts: list[tuple[int, ...]]) -> list[tuple[list[int], list[float]]]:
    """Of every prompt by itself what transformers writes, and by how much each token's logit was the best."""
    from transformers import AutoModelForCausalLM

    assert loaded.spec is not None
    model = AutoModelForCausalLM.from_pretrained(str(loaded.spec.path), dtype=loaded.dtype).eval()
    found = []
    for prompt in prompts:
        with torch.no_grad():
            written = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=N_NEW_TOKENS,
                do_sample=False,
                eos_token_id=sorted(loaded.eos_ids),
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        best = [logits[0].float().topk(2).values for logits in written.logits]
        found.append((written.sequences[0, len(prompt) :].tolist(), [float(two[0] - two[1]) for two in best]))
    return found


@pytest.mark.parametrize("rows", [1, N_PROMPTS])
def test_the_full_cache_writes_what_transformers_writes(
    loaded: LoadedModel,
    prompts: list[tuple[int, ...]],
    reference: list[tuple[list[int], list[float]]],
    dtype: str,
    rows: int,
) -> None:
    """Alone, and in a batch of texts of unlike lengths; the first token that differs must have been a tie."""
    full = mechanism("full").override("full", decoding=Greedy())
    longest = max(map(len, prompts))
    engine = Engine(loaded, full, None, rows=rows, max_new_tokens=N_NEW_TOKENS, max_prompt_tokens=longest)
    requests = [Request(str(i), prompt, bytes([i] * 16)) for i, prompt in enumerate(prompts)]
    written = {generation.problem_id: list(generation.token_ids) for generation in engine.generate(requests)}
    parted = {}
    for i, (expected, leads) in enumerate(reference):
        first = next((t for t, (a, b) in enumerate(zip(written[str(i)], expected, strict=False)) if a != b), None)
        if first is not None:
            parted[i] = (first, leads[first])
        else:
            assert len(written[str(i)]) == len(expected)
    n_tokens = sum(len(tokens) for tokens, _ in reference)
    print(f"\n{loaded.spec.name if loaded.spec else ''} {dtype} rows {rows}: {n_tokens} tokens, parted {parted}")

    assert all(lead < TIE[dtype] for _, lead in parted.values()), parted
