"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

from designspace.version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pyarrow", "ray", "math-verify")


def environment() -> dict[str, str]:
    """Return the versions that a reader of a report may ask for."""
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    return {"designspace": __version__, "python": python, **{name: version(name) for name in PACKAGES}}
