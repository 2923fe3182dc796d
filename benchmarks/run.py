"""Run the side-by-side benchmarks one after the other and write what they find to benchmarks/RESULTS.md.

    python -m benchmarks.run [--only against_kvpress refill] [--out FILE] [-- options of the single benchmarks]

Each benchmark is a script of its own and runs in a process of its own, so that none leaves memory or threads to the next.
Options after `--` go to every one of them that takes them: `-- --runs 3 --processes 8`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.json_lines import ROOT
from benchmarks.measured import machine, versions

SIDE_BY_SIDE = ("against_kvpress", "against_generate", "compression_cost")
SCRIPTS = (*SIDE_BY_SIDE, "refill", "memory")
TITLES = {"memory": "Peak memory, stated and measured"}  # of scripts that print no heading
RESULTS = Path(__file__).parent / "RESULTS.md"


def available() -> list[str]:
    """Return the benchmarks that are there."""
    return [name for name in SCRIPTS if (Path(__file__).parent / f"{name}.py").is_file()]


def command(name: str, options: Sequence[str]) -> list[str]:
    """Return what runs one benchmark; the options are for those that share them."""
    shared = [] if name == "memory" else ["--section"]
    return [sys.executable, "-m", f"benchmarks.{name}", *shared, *(options if name in SIDE_BY_SIDE else ())]


def section(name: str, printed: str, ran: Sequence[str]) -> str:
    """Return a benchmark's Markdown under a heading, with the command that made it."""
    text = printed.strip()
    heading, _, body = text.partition("\n") if text.startswith("## ") else (f"## {TITLES.get(name, name)}", "", text)
    return f"{heading}\n\n`python {' '.join(ran[1:])}`\n\n{body.strip()}\n"


def preface() -> str:
    """Return what all sections have in common."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"# Benchmark results\n\nWritten by `make bench`, {now}. {machine()}. {versions()}.\n\n"
        "Figures are medians with the least and the most in parentheses; ratios are taken within a round, in which each side "
        "runs once, and the median ratio is shown.\n"
    )


def sections(names: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    """Run the benchmarks and yield their sections; one that fails says so in its place."""
    for name in names:
        print(f"benchmarks.{name}", file=sys.stderr, flush=True)
        ran = command(name, options)
        done = subprocess.run(ran, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        failed = "" if done.returncode == 0 else f"\n\n**Failed** with exit code {done.returncode}.\n"
        yield section(name, done.stdout + failed, ran)


def main(argv: list[str] | None = None) -> int:
    """Run, write after every section, and return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=available())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("options", nargs="*", help="after --: options of the single benchmarks")
    arguments = parser.parse_args(argv)
    parts = [preface()]
    for part in sections(arguments.only, arguments.options):
        parts.append(part)
        arguments.out.write_text("\n".join(parts), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))
    return int(any("**Failed**" in part for part in parts))


if __name__ == "__main__":
    sys.exit(main())
