"""The documents are a site: it builds without a warning, and loads nothing from another address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate.site_links import MOUNTED, in_site
from tests.conftest import REPOSITORY

# What a browser fetches by itself; a plain link is not among it.
FETCHED = re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_has_a_page(site: Path) -> None:
    """Those that lie beside the code too."""
    documents = [path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")]
    pages = [page.removesuffix("index.md").removesuffix(".md") for page in (*documents, *MOUNTED.values())]

    assert len(pages) > 20
    assert [page for page in pages if not (site / page / "index.html").is_file()] == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No font, script, style or image of another address, on any page."""
    fetched = {a or b for page in site.rglob("*.html") for a, b in FETCHED.findall(page.read_text(encoding="utf-8"))}

    assert len(fetched) > 5
    assert {address for address in fetched if "//" in address} == set()


def test_links_fit_the_site() -> None:
    """A document beside the code is a page, another file is its path, and code is left alone."""
    text = "[a](tasks.md#x) [b](../CONTRIBUTING.md) [c](../sweeps/paper.yaml) [`d`](https://d) `[e](../f)`\n```\n[g](../h)\n```"

    assert in_site(text, "fidelity.md") == (
        "[a](tasks.md#x) [b](contributing.md) c (`sweeps/paper.yaml`) [`d`](https://d) `[e](../f)`\n```\n[g](../h)\n```"
    )
    assert in_site("[a](docs/tasks.md) [b](README.md)", "contributing.md") == "[a](tasks.md) [b](index.md)"
    assert in_site("[a](../tasks.md)", "reference/index.md") == "[a](../tasks.md)"
