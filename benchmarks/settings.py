"""The options that the side-by-side benchmarks share, and the lines that say what was run."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from benchmarks.measured import machine, n_cores, versions
from benchmarks.random_model import SHAPES
from benchmarks.subject import HALF, POCKET, is_folder
from designspace.errors import ModelError
from designspace.models.config_file import check_config_file


@dataclass(frozen=True)
class Load:
    """How much one run does on a model: rows per process and new tokens per row."""

    rows: int
    tokens: int


REAL = Load(32, 192)  # of a real model in a folder


def model_name(text: str) -> str:
    """Check that a model is one of those that are made here, or a folder.

    Raises:
        ArgumentTypeError: neither, which names the nearest; or the folder's config.json cannot be read.
    """
    names = (POCKET, *SHAPES)
    choices = [*names, *(name + HALF for name in names)]
    if text in choices:
        return text
    if is_folder(text):
        try:
            check_config_file(Path(text))
        except ModelError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text
    near = get_close_matches(text, choices, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise argparse.ArgumentTypeError(
        f"a model is one of {', '.join(choices)}, or a folder with config.json, got {text!r}{meant}"
    )


def parser(
    description: str | None, *, models: tuple[str, ...] = (POCKET, "0.1b"), runs: int = 5
) -> argparse.ArgumentParser:
    """Return a parser with what all of them take."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--models", nargs="+", type=model_name, default=list(models), metavar="MODEL", help="a name, or a folder"
    )
    found.add_argument("--rows", type=int, help="rows per process; by default what suits the model")
    found.add_argument("--tokens", type=int, help="new tokens per row; by default what suits the model")
    found.add_argument("--processes", type=int, default=n_cores(), help="processes of ours; default: one per core")
    found.add_argument("--threads", type=int, default=1, help="threads of each")
    found.add_argument("--runs", type=int, default=runs)
    found.add_argument("--budget", type=int, default=128, help="slots per head right after an event")
    found.add_argument("--interval", type=int, default=128, help="steps between events")
    found.add_argument("--step", choices=("plain", "compiled"), default="compiled", help="how the engine does a step")
    found.add_argument("--device", default="cpu")
    found.add_argument("--section", action="store_true", help="leave out machine and versions")
    return found


def load_of(arguments: argparse.Namespace, defaults: dict[str, Load], model: str) -> Load:
    """Return what was asked for, else what suits the model."""
    default = REAL if is_folder(model) else defaults.get(model.removesuffix(HALF), Load(8, 512))
    return Load(arguments.rows or default.rows, arguments.tokens or default.tokens)


def in_words(arguments: argparse.Namespace, defaults: dict[str, Load]) -> str:
    """Return what was run, in a sentence or two."""
    loads = []
    for model in arguments.models:
        load = load_of(arguments, defaults, model)
        loads.append(f"{title_of(model)}: {load.rows} rows per process, {load.tokens} new tokens per text")
    return (
        f"{arguments.processes} processes × {arguments.threads} thread(s) on {arguments.device}; {'; '.join(loads)}. Budget "
        f"{arguments.budget} slots per head after an event, an event every {arguments.interval} steps, greedy, the end-of-text "
        f"token ignored. Medians of {arguments.runs} alternating rounds (least–most)."
    )


def preamble(arguments: argparse.Namespace, title: str) -> str:
    """Return the heading, and machine and versions unless the caller says them itself."""
    heading = f"## {title}\n" if arguments.section else f"## {title}\n\n{machine()}\n\n{versions()}\n"
    minutes = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    return f"{heading}\nLoad average over 1, 5 and 15 minutes when it began: {minutes}.\n"


def title_of(model: str) -> str:
    """Return how a model is called in a table: of a folder its last name."""
    return Path(model).resolve().name if is_folder(model) else model


def progress(text: object) -> None:
    """Say where a long measurement stands, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)
