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

from designspace.axes import Budget, Request
from designspace.engine import Engine
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from designspace.tasks.task_spec import TaskSpec
from families.decoding.greedy import Greedy
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.real
ROOT = Path(os.environ.get("DESIGNSPACE_REAL_MODELS", REPOSITORY / "build/models"))
FOLDERS = sorted(file.parent for file in ROOT.glob("*/config.json")) if ROOT.is_dir() else []
N_PROMPTS, N_NEW_TOKENS = 16, 64
CUTTING = ("streaming-llm", "h2o", "snapkv", "r-kv")  # in a cache that no text fills, so that they have nothing to cut
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


@pytest.mark.parametrize(("name", "rows"), [("full", 1), ("full", N_PROMPTS), *((name, N_PROMPTS) for name in CUTTING)])
def test_where_nothing_is_lost_the_texts_are_those_of_transformers(
    loaded: LoadedModel,
    prompts: list[tuple[int, ...]],
    reference: list[tuple[list[int], list[float]]],
    dtype: str,
    name: str,
    rows: int,
) -> None:
    """The full cache's, alone and in a batch of texts of unlike lengths, and those of mechanisms with room for every token.

    The first token that differs must have been a tie.
    """
    found, longest = mechanism(name).override(name, decoding=Greedy()), max(map(len, prompts))
    budget = Budget(2 * (longest + N_NEW_TOKENS)) if found.budget_applies else None
    engine = Engine(loaded, found, budget, rows=rows, max_new_tokens=N_NEW_TOKENS, max_prompt_tokens=longest)
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
    print(f"\n{loaded.spec.name if loaded.spec else ''} {dtype} {name} rows {rows}: {n_tokens} tokens, parted {parted}")

    assert all(lead < TIE[dtype] for _, lead in parted.values()), parted


LONG, CHUNK = 8_000, 1024  # tokens: of SmolLM2's positions nearly all


def test_a_long_prompt_in_chunks_is_read_as_transformers_reads_it(loaded: LoadedModel, dtype: str) -> None:
    """All logits after thousands of tokens of prose, in float32."""
    from transformers import AutoModelForCausalLM

    if dtype == "bfloat16":
        pytest.skip("its rounding says nothing of a mistake")
    n_tokens = min(LONG, (loaded.longest or LONG) - 8)
    prose = "\n".join(
        problem.prompt for problem in TaskSpec("ruler-niah-single", "dev", 4, parameters=(("words", 2000),)).load()
    )
    ids = loaded.encode(prose, chat="off")[:n_tokens]
    full = mechanism("full").override("full", decoding=Greedy())
    engine = Engine(loaded, full, None, rows=1, max_new_tokens=2, max_prompt_tokens=len(ids), prefill_chunk=CHUNK)
    _, logits = engine.prefill.encode(ids)
    assert loaded.spec is not None
    model = AutoModelForCausalLM.from_pretrained(str(loaded.spec.path), dtype=loaded.dtype).eval()
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[:, -1]
    error = float((logits - expected).abs().max() / expected.abs().max())
    print(
        f"\n{loaded.spec.name} {dtype}: {len(ids):,} tokens in chunks of {CHUNK:,}, largest error of a logit {error:.1e}"
    )

    assert error < 1e-3
    assert int(logits.argmax()) == int(expected.argmax())
