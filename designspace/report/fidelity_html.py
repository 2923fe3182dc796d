"""The section of the HTML report on arms that were fed their texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

from designspace.report import wording
from designspace.report.fidelity import ArmFidelity

_COLUMNS: tuple[tuple[str, Callable[[ArmFidelity], str]], ...] = (
    ("fed", lambda arm: arm.of),
    ("loss over full, nats per token", lambda arm: f"{arm.loss_over_full:.4f}"),
    ("95 % interval", lambda arm: wording.between(arm.loss_interval, 4)),
    ("agreement, %", lambda arm: wording.percent(arm.agreement, 2)),
    ("95 % interval", lambda arm: wording.between(arm.agreement_interval, 2, 100)),
    ("whole texts, %", lambda arm: wording.percent(arm.undisturbed)),
    ("first disagreement, median token", lambda arm: wording.number(arm.first_disagreement)),
    ("mean cache, tokens", lambda arm: wording.number(arm.cache.mean_cache_tokens)),
    ("peak, tokens", lambda arm: wording.number(arm.cache.peak_cache_tokens, 0)),
    ("held, KiB", lambda arm: wording.kibibytes(arm.cache.mean_cache_bytes)),
    ("read per step, KiB", lambda arm: wording.kibibytes(arm.cache.mean_read_bytes)),
    ("prompt kept in a head, %", lambda arm: wording.percent(arm.cache.prompt_survival_mean)),
    ("tokens per text", lambda arm: wording.number(arm.cache.mean_new_tokens, 0)),
    ("texts", lambda arm: str(arm.cache.n_generations)),
    ("problems", lambda arm: str(arm.cache.n_problems)),
    ("comparable", lambda arm: wording.comparable(arm.cache)),
)


def fidelity_section(arms: Sequence[ArmFidelity]) -> str:
    """Return the section, empty where no arm was fed its texts."""
    if not arms:
        return ""
    tables = [_place(list(members)) for _, members in groupby(arms, key=lambda arm: arm.place)]
    return f"<section><h2>Fidelity to the full cache</h2><p>{_text(wording.FIDELITY)}</p>{''.join(tables)}</section>"


def _place(arms: Sequence[ArmFidelity]) -> str:
    heading = wording.place_heading([arm.cache for arm in arms])
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name, _ in _COLUMNS)
    groups = []
    for budget, members in groupby(arms, key=lambda arm: wording.budget_heading(arm.cache)):
        rows = [f'<tr><th scope="rowgroup" colspan="{len(_COLUMNS) + 1}">{_text(budget)}</th></tr>']
        for arm in members:
            cells = "".join(f"<td>{_text(show(arm))}</td>" for _, show in _COLUMNS)
            state = ' class="unmatched"' if arm.cache.comparison == "unmatched" else ""
            rows.append(f'<tr{state}><th scope="row">{_text(arm.cache.mechanism)}</th>{cells}</tr>')
        groups.append(f"<tbody>{''.join(rows)}</tbody>")
    table = f'<table><thead><tr><th scope="col">mechanism</th>{head}</tr></thead>{"".join(groups)}</table>'
    label = _text(f"Teacher-forced arms, {heading}")
    return f'<h3>{_text(heading)}</h3><div class=scroll role="region" tabindex="0" aria-label="{label}">{table}</div>'


def _text(value: object) -> str:
    return escape(wording.printable(str(value)))
