"""A hook of MkDocs: documents beside the code join the site, and links to other files of the repository become their names.

Links in a document are those of the repository, so that it can be read there. `MOUNTED` documents lie outside of `docs`; the
site has a page of each. Any other file that a link leads to is not part of the site, and its path is shown instead.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

REPOSITORY = Path(__file__).parents[2]
MOUNTED = {
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "benchmark-results.md",
    "cluster/examples/README.md": "cluster-examples.md",
    **{
        path.relative_to(REPOSITORY).as_posix(): f"bundled-models/{path.parent.name}.md"
        for path in sorted((REPOSITORY / "designspace/models/pocket").glob("*/README.md"))
    },
}
_HOME = {"README.md": "index.md"}
# Code, which is left alone, or a link: image mark, words, target, anchor.
_LINK = re.compile(
    r"^```.*?^```|`[^`\n]*`|(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)", re.MULTILINE | re.DOTALL
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents that lie elsewhere."""
    for path, page in MOUNTED.items():
        files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return a document whose links fit the site."""
    return in_site(markdown, page.file.src_uri)


def in_site(markdown: str, page: str) -> str:
    """Return a document with the links of the page that it becomes; page: its place within the site."""
    lies_at = {place: path for path, place in MOUNTED.items()}.get(page, f"docs/{page}")

    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if target is None or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(lies_at), target))
        place = {**MOUNTED, **_HOME}.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is None:
            return words if f"`{path}`" in words or words.strip("`") == path else f"{words} (`{path}`)"
        return f"{image}[{words}]({get_relative_url(place, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
