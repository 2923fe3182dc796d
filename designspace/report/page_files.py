"""What goes into the page beside its numbers: style, scripts, the charting library, and the policy that lets them run."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from designspace.report.figure import CSS_NAMES, DARK

# In the order in which they run. Each of ours is one part of the page; all share the object `page`.
_LIBRARIES = (("d3.LICENSE.txt", "d3.min.js"), ("plot.LICENSE.txt", "plot.umd.min.js"))
_SCRIPTS = (
    "page.js", "download.js", "picks.js", "panels.js", "accuracy.js", "forest.js", "effects.js", "profile.js", "table.js",
    "occupancy.js", "start.js",
    "problems.js",
)  # fmt: skip


@cache
def scripts() -> tuple[str, ...]:
    """Return the texts of the script elements, the libraries with their licences in front."""
    libraries = (f"/*\n{_read('vendor', terms)}\n*/\n{_read('vendor', name)}" for terms, name in _LIBRARIES)
    return (*libraries, "\n".join(_read("page", name) for name in _SCRIPTS))


def style() -> str:
    """Return the style sheet: the colours of light and dark, then the rules."""
    light = "; ".join(f"{name}: {hue}" for hue, name in CSS_NAMES.items())
    dark = "; ".join(f"{name}: {DARK[hue]}" for hue, name in CSS_NAMES.items())
    colours = f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return colours + _read("page", "page.css") + _read("page", "problems.css")


def policy() -> str:
    """Return the content security policy: these scripts run and no other, and nothing is fetched."""
    hashes = " ".join(_hashes())
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def weight_kb() -> int:
    """Return what the charting library adds to a page, in kB."""
    return round(sum(len(_read("vendor", name)) for _, name in _LIBRARIES) / 1000)


@cache
def _hashes() -> tuple[str, ...]:
    return tuple(_hashes_of_scripts())


def _hashes_of_scripts() -> Iterator[str]:
    for script in scripts():
        digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        yield f"'sha256-{digest}'"


@cache
def _read(*path: str) -> str:
    return files("designspace.report").joinpath(*path).read_text(encoding="utf-8")
