"""Design-space ablation for KV-cache compression: five composable axes, measured budgets, believable statistics.

The names below are loaded on first use, so that `import designspace` costs nothing and a mechanism used from a notebook
imports neither Ray nor YAML.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from designspace.version import __version__

if TYPE_CHECKING:
    from cluster.run import run_sweep
    from designspace.axes import Budget, Mechanism, Request
    from designspace.engine import Engine
    from designspace.models.loading import load_model
    from designspace.models.model_spec import ModelSpec
    from designspace.program.compression import compress
    from designspace.program.generate import generate
    from designspace.program.load import load
    from designspace.query.results import open_results
    from designspace.registry import mechanism
    from designspace.tasks.task_spec import TaskSpec
    from sweeps.plan import plan
    from sweeps.spec import load_sweep

__all__ = [
    "Budget",
    "Engine",
    "Mechanism",
    "ModelSpec",
    "Request",
    "TaskSpec",
    "__version__",
    "compress",
    "generate",
    "load",
    "load_model",
    "load_sweep",
    "mechanism",
    "open_results",
    "plan",
    "run_sweep",
]


_MODULE_OF = {
    "Budget": "designspace.axes",
    "Engine": "designspace.engine",
    "Mechanism": "designspace.axes",
    "ModelSpec": "designspace.models.model_spec",
    "Request": "designspace.axes",
    "TaskSpec": "designspace.tasks.task_spec",
    "compress": "designspace.program.compression",
    "generate": "designspace.program.generate",
    "load": "designspace.program.load",
    "load_model": "designspace.models.loading",
    "load_sweep": "sweeps.spec",
    "mechanism": "designspace.registry",
    "open_results": "designspace.query.results",
    "plan": "sweeps.plan",
    "run_sweep": "cluster.run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'designspace' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
