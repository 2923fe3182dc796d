"""Accuracy against realised budget: one figure per model and task split.

Colours were chosen to stay apart for people who do not see all of them, and to stand out from the page; colour, marker and
label all tell the arms apart. In the SVG every colour is a CSS variable, so that the page decides between light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from designspace.report import wording
from designspace.report.summary import ArmSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, PAPER = "#1a1c1e", "#d8dadd", "#fefefe"
SERIES = ("#0651a9", "#e55704", "#6a8c60", "#b00c62", "#744c1a", "#0181e4", "#00007b", "#302925")
DARK = {
    INK: "#e8eaec",
    GRID: "#3d4248",
    PAPER: "#16181b",
    **dict(
        zip(
            SERIES,
            ("#6b96bb", "#d47103", "#5cfb97", "#f0969d", "#b6d007", "#dbeaff", "#c63dff", "#7e8386"),
            strict=True,
        )
    ),
}  # the same colours on a dark page
CSS_NAMES = {INK: "--ink", GRID: "--grid", PAPER: "--paper", **{hue: f"--series-{i}" for i, hue in enumerate(SERIES)}}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")  # 8 hues x 11 markers before a pair repeats

_HEIGHT_IN = 4.4
_LEFT_IN, _AXES_IN, _GAP_IN = 0.7, 5.4, 0.3
_LETTER_IN = 0.082  # of a label, no narrower than most fonts have it
_AXES_HEIGHT = 0.84  # of the figure
_LABEL_PITCH_IN = 0.193


def accuracy_figure(arms: Sequence[ArmSummary]) -> Figure | None:
    """Draw accuracy over realised mean cache for the arms of one model and task split.

    Every marker is where its arm was measured, also where several lie on each other; unmatched arms have hollow ones. The
    axis is in tokens, or in bytes where a budget is. Returns None if no arm but references is graded.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    graded = [arm for arm in arms if arm.accuracy is not None and arm.interval is not None]
    series = _series(graded)
    if not series:
        return None
    with rc_context({"font.size": 10, "text.parse_math": False, "axes.edgecolor": INK, "text.color": INK}):
        height_in = max(_HEIGHT_IN, (len(series) + 2) * _LABEL_PITCH_IN / _AXES_HEIGHT)
        width_in = _LEFT_IN + _AXES_IN + _GAP_IN + _LETTER_IN * max(map(len, (*series, *map(_reference, graded))))
        figure = Figure(figsize=(width_in, height_in), facecolor="none")
        axes = figure.add_axes((_LEFT_IN / width_in, 0.125, _AXES_IN / width_in, _AXES_HEIGHT))
        budgeted = [arm for members in series.values() for arm in members]
        in_bytes = any(arm.budget_of == "bytes" for arm in budgeted)
        left, right = _limits([_size(arm, in_bytes) for arm in budgeted])
        axes.set_xlim(left, right)
        axes.set_ylim(-2, 104)
        _dress(axes, in_bytes)
        ends = [(name, *_draw(axes, index, arms, in_bytes)) for index, (name, arms) in enumerate(series.items())]
        _label(axes, [*ends, *_draw_references(axes, graded)], _LABEL_PITCH_IN / (height_in * _AXES_HEIGHT))
    return figure


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for an HTML page: no outside names, colours as CSS variables, stable bytes.

    Args:
        figure: what `accuracy_figure` returned.
        name: makes the ids of this figure distinct from those of others on the page.
    """
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.hashsalt": f"designspace-{name}", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for unwanted in ("metadata", "style"):  # a style element inside HTML would hold for the whole page
        text = re.sub(rf"<{unwanted}\b.*?</{unwanted}>", "", text, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", lambda tag: _retag(tag.group(), name), text)


def _retag(tag: str, name: str) -> str:
    # Labels cannot match: in their text `<` and `>` are escaped, so they are never inside a tag.
    tag = re.sub(r'\s(xmlns(:\w+)?)="[^"]*"', "", tag)  # an SVG inside HTML needs none
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'href="#', f'href="#{name}-', tag)
    tag = tag.replace("url(#", f"url(#{name}-")
    return re.sub(
        r"#[0-9a-f]{6}\b",
        lambda hue: f"var({CSS_NAMES[hue.group()]})" if hue.group() in CSS_NAMES else hue.group(),
        tag,
    )


def _series(arms: Sequence[ArmSummary]) -> dict[str, list[ArmSummary]]:
    found: dict[str, list[ArmSummary]] = {}
    for arm in sorted(arms, key=lambda arm: (arm.mechanism, arm.mean_cache_tokens)):
        if arm.comparison != "reference":
            found.setdefault(arm.mechanism, []).append(arm)
    return found


def _size(arm: ArmSummary, in_bytes: bool) -> float:
    """Return the measured mean cache, in KiB per text or in tokens per (layer, KV head)."""
    return arm.mean_cache_bytes / 1024 if in_bytes else arm.mean_cache_tokens


def _limits(sizes: Sequence[float]) -> tuple[float, float]:
    low, high = min(sizes), max(sizes)
    margin = 0.12 * (high - low) if high - low > 0.05 * high else 0.25 * max(high, 1.0)
    return max(0.0, low - margin), high + margin


def _dress(axes: Axes, in_bytes: bool) -> None:
    axes.set_facecolor("none")
    unit = "KiB per text" if in_bytes else "tokens per (layer, KV head)"
    axes.set_xlabel(f"realised mean cache, {unit}", color=INK)
    axes.set_ylabel("accuracy, %", color=INK)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw(axes: Axes, index: int, arms: Sequence[ArmSummary], in_bytes: bool) -> tuple[float, float, str]:
    hue, marker = SERIES[index % len(SERIES)], _MARKERS[index % len(_MARKERS)]
    xs = [_size(arm, in_bytes) for arm in arms]
    ys = [100 * (arm.accuracy or 0.0) for arm in arms]
    axes.plot(xs, ys, color=hue, linewidth=1.2, alpha=0.55, zorder=2)
    for arm, x, y in zip(arms, xs, ys, strict=True):
        if arm.interval is not None:
            below, above = max(0.0, y - 100 * arm.interval.low), max(0.0, 100 * arm.interval.high - y)
            axes.errorbar(x, y, [[below], [above]], color=hue, elinewidth=1.1, capsize=0, alpha=0.7, zorder=2)
        face = PAPER if arm.comparison == "unmatched" else hue
        axes.plot(x, y, marker, color=hue, markerfacecolor=face, markersize=6.5, markeredgewidth=1.4, zorder=3)
    return xs[-1], ys[-1], hue


def _draw_references(axes: Axes, arms: Sequence[ArmSummary]) -> list[tuple[str, float | None, float, str]]:
    found: list[tuple[str, float | None, float, str]] = []
    for arm in arms:
        if arm.comparison == "reference":
            level = 100 * (arm.accuracy or 0.0)
            axes.axhline(level, color=INK, linewidth=1.1, linestyle=(0, (5, 4)), zorder=1)
            found.append((_reference(arm), None, level, INK))
    return found


def _reference(arm: ArmSummary) -> str:
    return f"{arm.mechanism} ({arm.mean_cache_tokens:.0f} tokens)" if arm.comparison == "reference" else arm.mechanism


def _label(axes: Axes, ends: Sequence[tuple[str, float | None, float, str]], pitch: float) -> None:
    """Write each arm's name to the right of the axes, pushed apart, with a thin line to its last point."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    ranked = sorted(ends, key=lambda end: (end[2], end[0]))
    heights = spread([(end[2] - low) / (high - low) for end in ranked], pitch)
    for (name, x, y, hue), height in zip(ranked, heights, strict=True):
        start = (1.0 if x is None else (x - left) / (right - left), (y - low) / (high - low))
        axes.plot(
            [start[0], 1.025], [start[1], height], transform=axes.transAxes, color=hue, linewidth=0.6, alpha=0.45,
            clip_on=False, zorder=1,
        )  # fmt: skip
        text = wording.printable(name)
        axes.text(1.03, height, text, transform=axes.transAxes, color=hue, va="center", fontsize=9, parse_math=False)


def spread(heights: Sequence[float], pitch: float) -> list[float]:
    """Return sorted heights moved apart to at least `pitch`, each as little as possible, and within [0, 1] if they fit.

    Least squares: what is left after taking `i * pitch` off must rise, so blocks that fall are pooled to their mean.
    """
    blocks: list[tuple[float, int]] = []  # mean, size
    for index, height in enumerate(heights):
        mean, size = height - index * pitch, 1
        while blocks and blocks[-1][0] > mean:
            last_mean, last_size = blocks.pop()
            mean = (mean * size + last_mean * last_size) / (size + last_size)
            size += last_size
        blocks.append((mean, size))
    ceiling = max(0.0, 1.0 - (len(heights) - 1) * pitch)
    rising = [min(max(mean, 0.0), ceiling) for mean, size in blocks for _ in range(size)]
    return [base + index * pitch for index, base in enumerate(rising)]
