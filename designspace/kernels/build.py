"""Compile a C source of this package once per machine and load it; None where there is no compiler.

The library's name has a hash of the source, the headers, the flags, the compiler and the processor's features, so a shared
home folder serves unlike machines, and it appears by a rename, so that any number of processes may build at once.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# No -ffast-math when linking: it would switch the whole process to flushing denormals.
_COMPILE = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-fPIC", "-c")
_LINK = ("-shared", "-fopenmp")
_DEADLINE_S = 120


def switched_off() -> bool:
    """Return whether the plain path was asked for everywhere, by `DESIGNSPACE_KERNELS=0`."""
    return os.environ.get("DESIGNSPACE_KERNELS") == "0"


@cache
def load_library(name: str) -> ctypes.CDLL | None:
    """Return the library of `name`.c, compiled if need be.

    None where kernels are switched off (`DESIGNSPACE_KERNELS=0`), no C compiler is found, or it cannot compile for this
    processor: the caller then takes the plain path.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if switched_off() or compiler is None:
        return None
    source = Path(__file__).parent / f"{name}.c"
    try:
        library = _cache_folder() / f"{name}-{_fingerprint(source, compiler)}.so"
        if not library.exists():
            _build(compiler, source, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None


def _build(compiler: str, source: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        compiled, linked = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        for command in (
            [compiler, *_COMPILE, str(source), "-o", str(compiled)],
            [compiler, *_LINK, str(compiled), "-o", str(linked)],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=_DEADLINE_S)
        linked.replace(library)


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "designspace" / "kernels"


def _fingerprint(source: Path, compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=_DEADLINE_S).stdout
    headers = [header.read_bytes() for header in sorted(source.parent.glob("*.h"))]
    parts = (source.read_bytes(), *headers, repr((_COMPILE, _LINK)).encode(), version, _processor())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> bytes:
    """Return what the processor can do, as far as the system says."""
    info = Path("/proc/cpuinfo")
    lines = info.read_bytes().splitlines() if info.exists() else []
    features = next((line for line in lines if line.lower().startswith((b"flags", b"features"))), b"")
    return platform.machine().encode() + features
