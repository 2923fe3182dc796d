"""Stand-ins for the bundled models, so that these tests need no weights, and a builder of small sweep files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.spec import Sweep, load_sweep

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128,
}  # fmt: skip


def write_model(folder: Path, *, weights: bytes = b"weights", calibrated: bool = True) -> Path:
    """Write what a model folder must hold to be identified; nothing in it can be loaded."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    if calibrated:
        (folder / "calibration").mkdir()
        (folder / "calibration" / "q-stats.safetensors").write_bytes(b"statistics")
    return folder


@pytest.fixture(scope="session")
def bundled_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four bundled models."""
    root = tmp_path_factory.mktemp("bundled")
    for name in ("pocket-llama", "pocket-qwen2", "trace-llama", "trace-qwen2"):
        write_model(root / name, weights=name.encode())
    return root


@pytest.fixture(autouse=True)
def _bundled_models(bundled_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("designspace.models.model_spec.BUNDLED_ROOT", bundled_root)
    # No test may wait for a hub that is not there.
    monkeypatch.setattr("designspace.tasks.hub._from_hub", _no_hub)


def _no_hub(*_: object) -> Any:
    from designspace.errors import DeclarationError

    raise DeclarationError("no hub in tests")


def declaration(**changes: Any) -> dict[str, Any]:
    """Return a small valid sweep as data, with sections replaced; None removes one."""
    sections = {
        "schema": 1,
        "study": "small",
        "models": ["pocket-llama"],
        "tasks": [{"name": "chain-arithmetic", "split": "dev", "problems": 6}],
        "budgets": [48, 96],
        "mechanisms": ["full", "snapkv"],
        "seeds": {"count": 1, "root": 7},
        "generation": {"temperature": 0.0, "max_new_tokens": 16, "rows": 4},
        **changes,
    }
    return {name: section for name, section in sections.items() if section is not None}


@pytest.fixture
def sweep_of(tmp_path: Path) -> Callable[..., Sweep]:
    """A function from section changes to a loaded sweep. JSON is YAML too."""

    def load(**changes: Any) -> Sweep:
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps(declaration(**changes)), encoding="utf-8")
        return load_sweep(path)

    return load
