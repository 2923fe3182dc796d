"""Shared fixtures: toy models of every supported family, and the folders of data that lie outside the repository."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from designspace.axes import Artefact, Request
from designspace.axes.artefact import Q_STATISTICS
from designspace.engine import Engine
from designspace.kernels.build import load_library
from designspace.models.loading import LoadedModel, prepare
from tests import changed

REPOSITORY = Path(__file__).parent.parent
GOLDEN_SUBSET = REPOSITORY / "tests/golden/data"
_GOLDEN_WHOLE = Path(os.environ.get("DESIGNSPACE_GOLDEN", REPOSITORY / "../shared/golden"))
GOLDEN = _GOLDEN_WHOLE if _GOLDEN_WHOLE.is_dir() else GOLDEN_SUBSET
SHARED_DATA = Path(os.environ.get("DESIGNSPACE_SHARED", REPOSITORY / "../shared")) / "data"

settings.register_profile("any machine", deadline=None)  # a busy core, or a first import, is no bug
settings.load_profile("any machine")
torch.set_num_threads(1)  # toy tensors: threads cost more than they give, and pytest runs several processes

MODEL_FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "phi3")


def toy_model(
    family: str = "llama",
    *,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **extra: object,
) -> LoadedModel:
    """Return a tiny random model of one family, ready for the engine."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=97,
        hidden_size=heads * 16,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        initializer_range=0.1,
        tie_word_embeddings=False,
        **({"head_dim": 16} if family in ("llama", "qwen3", "mistral") else {}),
        **extra,
    )
    torch.manual_seed(seed)
    return prepare(AutoModelForCausalLM.from_config(config, dtype=dtype))


class Numbers:
    """A tokenizer of toy models, whose words are the numbers of their tokens."""

    unk_token_id = None

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """Return the tokens of a text."""
        return {"input_ids": [int(word) for word in text.split()]}


def start(engine: Engine, row: int, request: Request) -> None:
    """Load one prompt into a row, as a refill would."""
    engine.start(row, request, *engine.prefill.encode(request.prompt_ids))


def statistics_artefact(mean: torch.Tensor, modulus: torch.Tensor) -> Artefact:
    """Return query statistics as an artefact; mean: [L,H_q,D/2] complex64, modulus: [L,H_q,D/2] float32."""
    return Artefact(Q_STATISTICS, {"q_mean_real": mean.real, "q_mean_imag": mean.imag, "q_abs_mean": modulus})


def toy_statistics(loaded: LoadedModel, seed: int = 0) -> dict[str, Artefact]:
    """Return made-up query statistics of the right shape."""
    geometry = loaded.geometry
    generator = torch.Generator().manual_seed(seed)
    shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
    mean = torch.complex(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    made = statistics_artefact(mean, mean.abs() * 1.5)
    return {Q_STATISTICS: made, "q-stats-reasoning": made}


def toy_gate(loaded: LoadedModel, seed: int = 0) -> Artefact:
    """Return a made-up retention gate of a model's width."""
    layers, heads, hidden = loaded.geometry.n_layers, loaded.geometry.n_kv_heads, loaded.model.config.hidden_size
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "linear1.weight": (8, hidden),
        "linear1.bias": (8,),
        "linear2.weight": (heads, 8),
        "bias": (heads,),
    }
    made = {
        f"inputs.{name}": torch.randn(layers, *shape, generator=generator) * (shape[-1] ** -0.5)
        for name, shape in shapes.items()
    }
    return Artefact("trim-gate", made)


def toy_gates(loaded: LoadedModel, seed: int = 0) -> dict[str, Artefact]:
    """Return made-up weights of every network that speaks of a token when it comes, of a model's width."""
    geometry, hidden = loaded.geometry, loaded.model.config.hidden_size
    layers, heads, group = geometry.n_layers, geometry.n_kv_heads, geometry.group
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(layers, *shape, generator=generator) * shape[-1] ** -0.5

    sinks = {
        "q_proj.weight": drawn(heads * group * 4, hidden), "q_proj.bias": drawn(heads * group * 4),
        "k_proj.weight": drawn(heads * 4, hidden), "q_norm.weight": drawn(4).abs(), "k_norm.weight": drawn(4).abs(),
        "k_base": drawn(heads, 1, 3, 4), "b": drawn(heads, 1, group),
    }  # fmt: skip
    linear = [{"weight": drawn(heads, hidden), "bias": drawn(heads)} for _ in range(2)]
    made = {"kvzap": linear[0], "dms-gate": linear[1], "fast-kvzip": sinks}
    return {"trim-gate": toy_gate(loaded, seed), **{name: Artefact(name, tensors) for name, tensors in made.items()}}


@pytest.fixture(scope="session")
def toy_llama() -> LoadedModel:
    """A two-layer Llama with two KV heads."""
    return toy_model("llama")


@pytest.fixture
def plain_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No compiled kernels, as on a machine without a compiler and as on other devices."""
    monkeypatch.setenv("DESIGNSPACE_KERNELS", "0")
    load_library.cache_clear()
    yield
    load_library.cache_clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the quick loop."""
    parser.addoption("--changed", action="store_true", help="leave out what takes long and has not changed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--changed` leave out files, see `tests.changed`."""
    if not config.getoption("--changed"):
        return None
    return True if changed.is_left_out(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests that start Ray in one process, as each would start a Ray of its own; skip those of a GPU without one."""
    if config.getoption("--changed"):
        left_out = set(changed.unchanged_cases(items))
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))
