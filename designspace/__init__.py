"""Design-space ablation for KV-cache compression: five composable axes, measured budgets, believable statistics.

The names below are loaded on first use, so that `import designspace` costs nothing and a mechanism used from a notebook
imports neither Ray nor YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.run import run_sweep
    from designspace.axes import Mechanism
    from designspace.engine import Engine, Request
    from designspace.models.loading import load_model
    from designspace.models.spec import ModelSpec
    from designspace.registry import mechanism
    from designspace.schedule import Budget
    from designspace.store import open_results
    from designspace.tasks.task import TaskSpec
    from sweeps.plan import plan
    from sweeps.spec import load_sweep

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Engine",
    "Mechanism",
    "ModelSpec",
    "Request",
    "TaskSpec",
    "__version__",
    "load_model",
    "load_sweep",
    "mechanism",
    "open_results",
    "plan",
    "run_sweep",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'designspace' has no attribute {name!r}")
    value = _load(name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load(name: str) -> Any:
    if name in ("plan", "load_sweep"):
        from sweeps.plan import plan
        from sweeps.spec import load_sweep

        return {"plan": plan, "load_sweep": load_sweep}[name]
    if name == "run_sweep":
        from cluster.run import run_sweep

        return run_sweep
    return _load_core(name)


def _load_core(name: str) -> Any:
    from designspace import axes, engine, registry, schedule, store
    from designspace.models import loading, spec
    from designspace.tasks import task

    for module in (axes, engine, registry, schedule, store, loading, spec, task):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module 'designspace' has no attribute {name!r}")
