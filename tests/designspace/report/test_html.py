"""The page is complete in itself, stable, accessible, and shows labels without obeying them.

What its scripts do is tested in a browser: tests/browser.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from designspace.errors import StoreError
from designspace.report import table_report, write_report
from designspace.report.declared import OtherCells

ENVIRONMENT = {"python": "3.11.7", "torch": "2.13 <cpu>"}


@pytest.fixture(params=[False, True], ids=["scripts", "static"])
def page(small, tmp_path, request):
    """The page on the small table, with scripts and without."""
    return written(small, tmp_path, title="A & B", environment=ENVIRONMENT, static=request.param)


def written(source, folder, *, title="t", environment=None, **options):
    """Write a page and return its text."""
    path = write_report(source, folder / "r.html", title=title, environment=environment or {}, **options)
    return path.read_text(encoding="utf-8")


def data_of(page):
    """Return what the scripts of a page read."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


class Reader(HTMLParser):
    """Collects tags with attributes and what is read, and checks that they nest."""

    VOID = frozenset({"meta", "br", "wbr", "use", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        """Note an element, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Check that it closes what was opened last."""
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        """Note a text."""
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def read(page):
    """Parse a page to its end."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_nothing_is_loaded(page):
    """No address, and no element or style that fetches something; scripts are part of the page."""
    reader = read(page)
    assert "@import" not in page
    assert not {tag for tag, _ in reader.tags} & {"link", "img", "iframe", "object", "embed", "base", "form"}
    targets = [attrs[name] for _, attrs in reader.tags for name in ("href", "src", "xlink:href") if name in attrs]
    assert all(target.startswith("#") for target in targets)
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)


def test_the_static_page_has_no_script(small, tmp_path):
    """Nor an address; its figure is drawn."""
    page = written(small, tmp_path, static=True)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert 'aria-label="Accuracy over cache size' in page


def test_only_the_scripts_of_the_page_run(small, tmp_path):
    """The policy names each by its hash, and nothing else may be loaded."""
    page = written(small, tmp_path)
    policy = next(attrs["content"] for tag, attrs in read(page).tags if attrs.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts}
    assert len(hashes) == 3
    assert set(re.search(r"script-src ([^;]*);", policy)[1].split()) == hashes
    assert policy.startswith("default-src 'none'")


def test_the_library_is_what_was_released():
    """Its files have the hashes that are noted beside them, and the page carries their licences."""
    folder = files("designspace.report").joinpath("vendor")
    noted = dict(
        reversed(line.split())
        for line in re.findall(r"^[0-9a-f]{64} .*$", folder.joinpath("README.txt").read_text(), re.M)
    )
    assert {name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in noted} == noted
    assert set(noted) == {"d3.min.js", "plot.umd.min.js"}


def test_the_page_carries_the_licences(small, tmp_path):
    """Of the library that it holds a copy of."""
    page = written(small, tmp_path)
    for holder in ("Mike Bostock", "Observable, Inc.", "Mikola Lysenko", "Robert Penner"):
        assert holder in page


def test_the_table_holds_the_numbers(page):
    """Arms, accuracy, interval, cache, kinds, comparison, notes, environment, and how to read it."""
    text = "\n".join(read(page).text)
    for words in (
        "A & B", "Study quick · 4 arms · 16 texts", "no budget", "budget 48 mean", "r-kv", "75.0", "30.1–95.4", "48.0",
        "Accuracy by kind of problem", "with the others: greedy", "How to read this", "2.13 <cpu>", "reference",
        "no: unmatched (+25.0 %)", "yes",
    ):  # fmt: skip
        assert words in text


def test_the_scripts_get_every_number_once(small, tmp_path):
    """Each arm with its columns, spelt and as numbers; the interval has both ends."""
    (table,) = data_of(written(small, tmp_path))["tables"]
    keys = [column["key"] for column in table["columns"]]
    arms = {arm["name"]: dict(zip(keys, arm["values"], strict=True)) | arm for arm in table["arms"]}
    assert {name: arm["accuracy"] for name, arm in arms.items()} == {
        "full": 1.0,
        "greedy": 1.0,
        "r-kv": 0.75,
        "h2o": 0.5,
    }
    assert arms["greedy"]["tokens"] == 60.0
    assert arms["r-kv"]["shown"][:2] == ["75.0", "30.1–95.4"]
    assert (round(arms["r-kv"]["low"], 3), round(arms["r-kv"]["high"], 3)) == (0.301, 0.954)
    assert [arm["comparison"] for arm in table["arms"]] == ["reference", "unmatched", "matched", "matched"]


def test_words_of_the_page_are_explained_on_it(page):
    """Whoever meets a column or a mark there finds what it means."""
    explained = page[page.index("How to read this") :].lower()
    for word in (
        "event",
        "budget",
        "mean cache",
        "steady mean",
        "unmatched",
        "reference",
        "accuracy",
        "lenient",
        "accuracy if extracted",
        "intervals",
        "held",
        "auxiliary",
        "speed",
    ):
        assert f">{word}</" in explained, word


def test_tables_and_figures_are_accessible(page):
    """Headers have scopes, regions that scroll can be reached by keyboard and have names, as do drawings."""
    tags = read(page).tags
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    assert all(attrs.get("tabindex") == "0" for _, attrs in tags if attrs.get("role") == "region")
    assert all(attrs["aria-label"] for _, attrs in tags if attrs.get("role") in {"region", "img"})
    assert ("html", {"lang": "en"}) in tags
    assert "prefers-color-scheme: dark" in page


def test_the_same_rows_give_the_same_bytes(small, tmp_path):
    """Writing again changes nothing, and leaves no scratch file."""
    pages = [
        write_report(small, tmp_path / name, title="t", environment={}).read_bytes() for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


@pytest.mark.parametrize("column", ["mechanism", "model", "kind", "study", "task", "budget"])
def test_labels_are_escaped(make_table, tmp_path, column):
    """A script in any label is text, in the tables and in what the scripts read."""
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)><!--'
    table = make_table({column: evil}, {column: evil, "problem_id": "b", "kind": "other"}, {"mean_cache_tokens": 99.0})
    for static in (True, False):
        page = written(table, tmp_path, title=evil, environment={evil: evil}, static=static)
        reader = read(page)
        assert [tag for tag, _ in reader.tags].count("script") == (0 if static else 4)
        assert "img" not in {tag for tag, _ in reader.tags}
        assert evil in "".join(reader.text)
    assert data_of(page)["title"] == evil


def test_what_is_missing_comes_before_every_number(small, tmp_path):
    """So does that the study is not finished; cells that are not in the report stand at the end, each with its size."""
    others = (OtherCells("other", "pocket", "chain", "dev", "alpha", "48", n_cells=2, n_texts=40),)
    report = replace(table_report(small), missing=("Only 3 of 16 problems: h2o.",), others=others)
    page = written(report, tmp_path)
    text = "\n".join(read(page).text)

    places = [
        text.index(words) for words in ("not finished", "Only 3 of 16", "Before you compare", "Not in this report")
    ]
    assert places == sorted(places)
    assert text.index("Only 3 of 16") < text.index("75.0")
    assert "alpha" in text[places[-1] :]
    assert "40" in text[places[-1] :]


def test_the_page_names_the_code_that_made_the_texts(with_texts, tmp_path):
    """Beside the versions of the program that wrote the page."""
    table = with_texts({"code_id": "0.1.0+a"}, {"mechanism": "r-kv", "code_id": "0.1.0+b"})
    page = written(table, tmp_path)

    assert "0.1.0+a, 0.1.0+b" in "".join(read(page).text)
    assert "made by 2 states of the code" in page


def test_an_empty_table_makes_a_page(make_table, tmp_path):
    """A study without rows says so."""
    assert "No rows yet" in written(make_table(), tmp_path)
    assert data_of(written(make_table(), tmp_path))["tables"] == []


def test_a_failed_write_is_an_error(small, tmp_path):
    """A folder in the way is one clear message."""
    (tmp_path / "r.html").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*r\.html"):
        write_report(small, tmp_path / "r.html", title="t", environment={})
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
