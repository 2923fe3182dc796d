"""The retention map as one self-contained HTML file: the text coloured by what is left of it, and where it was missed."""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from designspace.errors import StoreError

_HOW_TO_READ = """\
A token's colour is the share of KV heads (or the one that is chosen) that still hold it at this step: full colour where all
do, none where it is gone. Step 0 is the prompt after its own cut; step s feeds the s-th token of the answer. The image below a
text shows all steps at once: a line for each token from top to bottom, steps from left to right. A token was <em>missed</em>
where a head had evicted it and the full cache, on the very same text, would have attended to it: the weight is the largest of
the query heads that share the KV head."""


def retention_page(traced: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the page of some traced texts, side by side.

    Args:
        traced: documents of `cluster.retrace.TracedText.document()`.
        title: of the page.
    """
    script, style = _read("retention.js"), _read("retention.css")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    # Inside a script element only "</" and "<!--" could end or change it.
    data = json.dumps(list(traced), ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
<details><summary>How to read this</summary><p>{_HOW_TO_READ}</p></details>
<form id="controls" aria-label="What is shown">
<label class="wide">Step <output id="step-number">0</output>
<input id="step" type="range" min="0" value="0" step="1"></label>
<label>Layer <select id="layer"></select></label>
<label>KV head <select id="head"></select></label>
</form>
<p id="token" role="status">Point at a token, or move to it with the arrow keys, to see which heads hold it.</p>
<div id="texts"></div>
<noscript><p>The map is drawn by a script inside this file, which is switched off here.</p></noscript>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def write_retention_page(traced: Sequence[Mapping[str, Any]], path: Path, title: str) -> Path:
    """Write the page and return its path.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        path.write_text(retention_page(traced, title), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _read(name: str) -> str:
    return files("designspace.report.retention").joinpath(name).read_text(encoding="utf-8")
