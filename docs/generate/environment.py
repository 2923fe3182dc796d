"""The page of the environment variables that the code reads, and a search that finds them in the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from cluster.limits import VARIABLE as LIMITS
from cluster.limits import Limits
from designspace.cli.app import app
from docs.generate.markdown import Docstring, table

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("designspace", "families", "sweeps", "cluster")
# What is read beside the options of commands.
READ = {
    "DESIGNSPACE_CACHE": "Folder of calibrations of hub models, imported GGUF files, proofs of models; `~/.cache/designspace`.",
    "DESIGNSPACE_KERNELS": "`0` switches the compiled kernels off: everything runs in PyTorch. It is registered too.",
    LIMITS: "How long a run on Ray waits for what; see below.",
    "OMP_NUM_THREADS": "If it is set, small models use as many threads as it allows rather than one.",
    "CC": "The C compiler of the kernels; `cc`. Without one, everything runs in PyTorch.",
    "CXX": "The C++ compiler that PyTorch needs for `step: compiled` on a CPU; `g++`.",
    "XDG_CACHE_HOME": "Compiled kernels are kept in its folder `designspace/kernels`; `~/.cache`.",
    "RAY_ADDRESS": "The Ray cluster of a run, if `--address` names none; without either, a local Ray is started.",
    "RAY_TMPDIR": "Folder of a local Ray's files. Ray's paths must be short, so without it `/tmp` may be used.",
}
HEAD = """# Environment variables

An option that is typed wins over its variable.
"""


def page() -> str:
    """Return all variables: of options, others, and the parts of the limits."""
    options = [[f"`{name}`", f"`{option}` of {', '.join(f'`{c}`' for c in commands)}"]
               for name, (option, commands) in option_variables().items()]  # fmt: skip
    limits, doc = Limits(), Docstring(Limits)
    parts = [
        HEAD.rstrip(),
        table(["variable", "stands for the option"], options),
        "## Others",
        table(
            ["variable", "meaning, and what is taken without it"], [[f"`{name}`", says] for name, says in READ.items()]
        ),
        f"## {LIMITS}",
        f"In seconds, as `{LIMITS}=silent_s=20,start_s=1200`.",
        table(
            ["part", "default", "waits"],
            [[f"`{name}`", f"{getattr(limits, name):g}", says] for name, says in doc.names.items()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def option_variables() -> dict[str, tuple[str, list[str]]]:
    """Return the variables of options: the option, and the commands that have it."""
    group: Any = typer.main.get_command(app)
    found: dict[str, tuple[str, list[str]]] = {}
    for name, command in group.commands.items():
        for param in command.params:
            if param.envvar:
                found.setdefault(str(param.envvar), (param.opts[0], []))[1].append(name)
    return dict(sorted(found.items()))


def read_in_code() -> set[str]:
    """Return the names of variables that the code reads by themselves, not through an option."""
    found = {LIMITS}
    for file in (file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        found |= {
            *re.findall(r'environ(?:\.get\(|\[)"(\w+)"(?!\] =)', text),
            *re.findall(r'"(\w+)" (?:not )?in os\.environ', text),
        }
    return found
