"""The problem browser as a part of the page, with the texts themselves, where there are not too many of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from designspace.report.arm_rows import NO_BUDGET, named_apart

# A page beyond that opens slowly; `designspace view` has no limit.
MOST_TEXTS, MOST_CHARACTERS = 5_000, 8_000_000
LEDGER = (
    "n_prompt_tokens", "n_new_tokens", "finish_reason", "mean_cache_tokens", "steady_mean_cache_tokens", "peak_cache_tokens",
    "mean_cache_bytes", "mean_read_bytes", "n_events", "n_evicted", "prompt_survival_union", "prompt_survival_mean",
)  # fmt: skip
_PLACE = ("model", "task", "split", "budget", "replicate")
_TEXT = (*_PLACE, "problem_id", "mechanism", "correct", "extracted", "text")
BROWSED = (*_TEXT, *LEDGER, "prompt", "answer", "kind")
FORM = """\
<p id="view-said" class="said" role="status">Reading the results …</p>
<form id="view-filters" hidden aria-label="Which problems are listed">
<label>Where <select id="view-place"></select></label>
<label>Kind <select id="view-kind"></select></label>
<fieldset><legend>Arm A</legend><select id="view-a" aria-label="Arm A"></select>
<select id="view-verdict_a" aria-label="What A's text is"></select></fieldset>
<fieldset><legend>Arm B</legend><select id="view-b" aria-label="Arm B"></select>
<select id="view-verdict_b" aria-label="What B's text is"></select></fieldset>
<label>Problem <input id="view-search" type="search" placeholder="part of an id" size="14"></label>
<label>Marks against <select id="view-against"></select></label>
</form>
<div id="view-both" class="both" hidden>
<nav aria-label="Problems">
<p id="view-count" class="count"></p>
<ol id="view-problems"></ol>
<p class="pages"><button id="view-earlier" type="button">earlier</button> <span id="view-page"></span>
<button id="view-later" type="button">later</button></p>
</nav>
<div id="view-problem" aria-live="polite"></div>
</div>"""


def problems_section(data: str | None) -> str:
    """Return the section of the page; data: `problems_data` as text of a script element, None where there is no room."""
    if data is None:
        return (
            "<section><h2>Problems</h2><p>There are too many texts for a page: <code>designspace view RESULTS</code> shows "
            "them.</p></section>"
        )
    return (
        f'<section class=browser><h2 id="view-title">Problems</h2>{FORM}'
        f'<script type="application/json" id="view-data">{data}</script></section>'
    )


def problems_data(rows: pa.Table, study: str, results: str) -> dict[str, Any] | None:
    """Return every text with its grade and ledger as plain JSON data, None where they are too many for a page.

    Args:
        rows: joined with grades, as `ResultsStore.samples().to_table()` gives them; texts that were fed are left out.
        study: its name.
        results: the folder, for the commands that the page names.
    """
    if "forced_of" in rows.column_names:
        rows = rows.filter(pc.is_null(rows["forced_of"]))
    n_characters = pc.sum(pc.utf8_length(rows["text"])).as_py() or 0
    if rows.num_rows > MOST_TEXTS or n_characters > MOST_CHARACTERS:
        return None
    lines = named_apart(rows).select(BROWSED).to_pylist()
    problems = {
        f"{line['task']} {line['split']} {line['problem_id']}": {
            "problem_id": line["problem_id"],
            "prompt": line["prompt"],
            "answer": line["answer"],
            "kind": line["kind"],
        }
        for line in lines
    }
    texts = [{**{key: line[key] for key in _TEXT}, "ledger": {key: line[key] for key in LEDGER}} for line in lines]
    return {
        "study": study,
        "results": results,
        "n_texts": len(texts),
        "notes": [],
        "places": places_of({(*(line[key] for key in _PLACE), line["mechanism"], line["kind"]) for line in lines}),
        "problems": problems,
        "texts": texts,
    }


def places_of(labels: set[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every model, task, split, budget and replicate with its arms and kinds of problems.

    Arms without a budget are at every budget of their model and task.

    labels: (model, task, split, budget, replicate, mechanism, kind) of texts.
    """
    found: dict[tuple[Any, ...], set[str]] = {}
    for *place, arm, _ in labels:
        found.setdefault(tuple(place), set()).add(arm)
    free = {(*place[:3], place[4]): arms for place, arms in found.items() if place[3] == NO_BUDGET}
    with_budget = {place: arms for place, arms in found.items() if place[3] != NO_BUDGET}
    bare = {(*key[:3], NO_BUDGET, key[3]): arms for key, arms in free.items()}
    covered = {(*place[:3], place[4]) for place in with_budget}
    shown = with_budget | {place: arms for place, arms in bare.items() if (*place[:3], place[4]) not in covered}
    return [
        {
            **dict(zip(_PLACE, place, strict=True)),
            "arms": sorted({*shown[place], *free.get((*place[:3], place[4]), ())}),
            "kinds": sorted({kind for *where, _, kind in labels if tuple(where[:3]) == place[:3]}),
        }
        for place in sorted(shown, key=_natural)
    ]


def _natural(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a key that puts a budget of 80 before one of 112."""
    digits = "".join(letter for letter in str(place[3]).split(" ")[0] if letter.isdigit())
    return (*place[:3], int(digits or 0), *place[3:])
