"""Looking into texts in a browser: the problem browser in the page and with its server, and the retention map."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from designspace.report import table_report, write_report
from designspace.report.page_problems import problems_data
from designspace.report.retention import write_retention_page
from designspace.store import ResultsStore
from designspace.store.schema import FORCED_COLUMNS
from designspace.view import ViewServer
from tests.browser.conftest import AXE, SCREENS
from tests.designspace.query.stored_study import N_PROBLEMS, solves, write_study
from tests.designspace.store.conftest import sample_row
from tests.designspace.view.served import served

pytestmark = pytest.mark.browser


def serious(tab) -> list[str]:
    """Return what axe-core finds that is serious."""
    if not AXE.is_file():
        pytest.skip("needs axe-core: make test-browser")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document)")["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultsStore:
    """The full cache and four arms at two budgets on twelve problems."""
    return write_study(tmp_path_factory.mktemp("texts") / "quickstart")


@pytest.fixture(scope="module")
def page_file(store: ResultsStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, with the texts in it."""
    rows = store.samples().to_table()
    data = problems_data(rows, "quickstart", "results/quickstart")
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(table_report(rows), path, title="quickstart", environment={}, problems=data)


@pytest.fixture(scope="module")
def server(store: ResultsStore) -> Iterator[ViewServer]:
    """Its server."""
    with served(store) as made:
        yield made


@pytest.fixture(params=["page", "server"])
def opened(request: pytest.FixtureRequest, browse, page_file: Path, server: ViewServer):
    """The browser in a window, from the page's own data or from its server."""
    window = browse()
    window.tab.goto(page_file.as_uri() if request.param == "page" else server.url)
    window.tab.wait_for_selector("#view-problem h2")
    return window


def listed(tab) -> list[str]:
    """Return the ids of the problems in the list."""
    return [item.split("\n")[0] for item in tab.locator("#view-problems button").all_inner_texts()]


def test_filters_list_what_fits_and_a_problem_shows_its_texts(opened) -> None:
    """Right in one arm and wrong in another; the marked text; no message, and nothing fetched from elsewhere."""
    tab = opened.tab
    assert len(listed(tab)) == N_PROBLEMS
    for name, value in (("a", "alpha+none"), ("verdict_a", "right"), ("b", "h2o+none"), ("verdict_b", "wrong")):
        tab.select_option(f"#view-{name}", value)
    tab.wait_for_timeout(300)
    expected = [
        f"trace-dev-{i:05d}" for i in range(N_PROBLEMS) if solves("alpha+none", 80, i) and not solves("h2o+none", 80, i)
    ]
    assert [item.split("A")[0].strip() for item in listed(tab)] == expected
    assert tab.inner_text("#view-count") == f"{len(expected)} of {N_PROBLEMS} problems"
    tab.locator("#view-problems button").nth(1).focus()
    tab.keyboard.press("Enter")
    tab.wait_for_timeout(300)
    assert tab.inner_text("#view-problem h2").startswith(expected[1])
    names = tab.locator("#view-problem article h3").all_inner_texts()
    assert names[:3] == ["full", "alpha+none", "h2o+none"] and len(names) == 5
    assert tab.locator("#view-problem article mark").count() >= 1
    assert opened.said == []
    assert all(url.startswith(("file:", "data:", "http://127.0.0.1:")) for url in opened.asked)


def test_a_mark_begins_at_a_letter_and_not_within_one(browse, tmp_path: Path) -> None:
    """Letters beyond the first 65,536 are two places of a string in the page, and one in Python."""
    store = ResultsStore.open(tmp_path / "emoji")
    for name, text in (("full", "\U0001f600\U0001f600 a b"), ("arm", "\U0001f600\U0001f600 a c")):
        row = sample_row(study="emoji", mechanism=name, budget="none", budget_tokens=None, budget_of=None, text=text,
                         **dict.fromkeys(FORCED_COLUMNS))  # fmt: skip
        cell = hashlib.sha256(name.encode()).hexdigest()
        store.commit(cell, cell[:32], {"cell": cell}, [row])
    rows = store.samples().to_table()
    data = problems_data(rows, "emoji", "results/emoji")
    path = write_report(table_report(rows), tmp_path / "page.html", title="emoji", environment={}, problems=data)
    with served(store) as server:
        for address in (path.as_uri(), server.url):
            tab = browse().tab
            tab.goto(address)
            tab.wait_for_selector("#view-problem mark")
            assert tab.locator("#view-problem mark").all_inner_texts() == ["c"]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_browser_fits_the_window_and_axe_finds_nothing_serious(
    browse, server: ViewServer, width: int, scheme: str
) -> None:
    """On a desk and on a phone, light and dark."""
    tab = browse(width, scheme).tab
    tab.goto(server.url)
    tab.wait_for_selector("#view-problem h2")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(tab) == []


@pytest.fixture(scope="module")
def retention_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of two texts: of 12 positions, 4 are the prompt; the first head of the second layer evicts position 2 at step 3."""
    evicted = np.full((2, 2, 12), -1, dtype="<i4")
    evicted[1, 0, 2], evicted[:, :, 1] = 3, 5
    lookup = {"layer": 1, "head": 0, "position": 2, "step": 3, "by": 9, "weight": 0.75}
    text = {
        "name": "some-arm", "about": "wrong", "labels": {}, "n_prompt_tokens": 4, "n_steps": 8,
        "tokens": [f" t{i}" for i in range(13)], "layers": [0, 1], "shape": [2, 2, 12],
        "evicted_at": b64encode(evicted.tobytes()).decode(), "least_weight": 0.1, "lookups": [lookup],
    }  # fmt: skip
    path = tmp_path_factory.mktemp("map") / "map.html"
    return write_retention_page([text, {**text, "name": "other-arm", "lookups": []}], path, "What the cache held")


def test_the_map_says_of_every_token_which_heads_hold_it(browse, retention_file: Path) -> None:
    """By the slider, by layer and head, by a look-up that is clicked; and the image has a pixel for each token and step."""
    window = browse()
    tab = window.open(retention_file)
    share = "(at) => Number(document.querySelectorAll('#text-0 .text span')[at].style.getPropertyValue('--share'))"
    for step, position, expected in ((2, 2, 1), (3, 2, 0.75), (4, 1, 1), (5, 1, 0), (8, 11, 1)):
        tab.locator("#step").fill(str(step))
        assert tab.evaluate(share, position) == expected
    tab.select_option("#layer", "1")
    tab.select_option("#head", "0")
    assert tab.evaluate(share, 2) == 0
    assert tab.evaluate(
        "(() => { const c = document.querySelector('#text-0 canvas'); return [c.width, c.height]; })()"
    ) == [9, 12]
    tab.locator("#text-0 table button").first.click()
    assert tab.inner_text("#step-number") == "6"
    assert "position 2" in tab.inner_text("#token") and "layer 1 head 0 at 3" in tab.inner_text("#token")
    tab.locator("#text-0 .text").focus()
    tab.keyboard.press("ArrowRight")
    assert "position 1," in tab.inner_text("#token")
    assert window.said == [] and all(url.startswith(("file:", "data:")) for url in window.asked)


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_map_fits_the_window_and_axe_finds_nothing_serious(
    browse, retention_file: Path, width: int, scheme: str
) -> None:
    """On a desk and on a phone, light and dark."""
    tab = browse(width, scheme).open(retention_file)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(tab) == []


def test_thousands_of_tokens_are_drawn(browse, tmp_path: Path) -> None:
    """Eight layers of four heads, 4,000 tokens: every step shows the share that the numbers say."""
    evicted = np.random.default_rng(0).integers(1, 3500, (8, 4, 4000)).astype("<i4")
    text = {
        "name": "long", "about": "", "labels": {}, "n_prompt_tokens": 500, "n_steps": 3500, "tokens": [" token"] * 4001,
        "layers": list(range(8)), "shape": [8, 4, 4000], "evicted_at": b64encode(evicted.tobytes()).decode(),
        "least_weight": 0.1, "lookups": [],
    }  # fmt: skip
    tab = browse().open(write_retention_page([text], tmp_path / "long.html", "long"))
    for step in range(100, 3500, 800):
        tab.locator("#step").fill(str(step))
        share = tab.evaluate(
            "Number(document.querySelectorAll('#text-0 .text span')[7].style.getPropertyValue('--share'))"
        )
        assert share == pytest.approx(float((evicted[:, :, 7] > step).mean()))
