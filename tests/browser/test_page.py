"""The report's page in a browser: it is drawn where it says, answers to mouse and keyboard, and asks for nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from designspace.report.columns import ARM_COLUMNS
from tests.browser.conftest import AXE, SCORINGS, SCREENS

pytestmark = pytest.mark.browser

# Where each mark is in its panel, and where the ticks of the panel's axes are, as the browser has laid them out.
PLACES = """(id) => [...document.querySelectorAll(`#${id} svg[data-panel]`)].map((svg) => {
  const middle = (node) => {
    const box = node.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const number = (text) => Number(text.replaceAll(",", "").replace("−", "-"));
  const ticks = (axis) => {
    const marks = svg.querySelectorAll(`[data-part="${axis}-axis tick"] path`);
    const labels = svg.querySelectorAll(`[data-part="${axis}-axis tick label"] text`);
    return [...labels].map((label, at) => [number(label.textContent), ...middle(marks[at])]);
  };
  return { title: svg.dataset.panel, x: ticks("x"), y: ticks("y"),
    marks: [...svg.querySelectorAll("[data-kind=arms] [data-arm]")].map((node) => [node.dataset.arm, ...middle(node)]) };
})"""

COLOURS = """() => Object.fromEntries([...document.querySelectorAll(".picks li.picked")].map(
  (item) => [item.dataset.pick, item.querySelector("path").getAttribute("fill")]))"""


def arms_of(path: Path) -> dict[str, dict[str, object]]:
    """Return the arms that a page's file holds, by the id that its marks have."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))[1])
    found = []
    for table in data["tables"]:
        keys = [column["key"] for column in table["columns"]]
        found += [{**dict(zip(keys, arm["values"], strict=True)), **arm} for arm in table["arms"]]
    return {f"0-{index}": arm for index, arm in enumerate(found)}


def scale(ticks: list[list[float]], at: int):
    """Return value -> pixel from the first and the last tick of an axis; at: 1 for x, 2 for y."""
    (first, *_), (last, *_) = ticks[0], ticks[-1]
    start, end = ticks[0][at], ticks[-1][at]
    return lambda value: start + (value - first) * (end - start) / (last - first)


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_everything_is_drawn_and_nothing_asked_for(browse, page_file, width, scheme):
    """Every figure, a table for each model; no message, no request, and the page is as wide as the window."""
    window = browse(width, scheme)
    tab = window.open(page_file)
    window.keep_picture(f"page-{width}-{scheme}")

    assert window.said == []
    assert [url for url in window.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    drawn = {
        section.get_attribute("id"): section.locator("svg[data-panel]").count()
        for section in tab.locator(".figure").all()
    }
    assert drawn == {"accuracy-0": 2, "contrasts-0": 4, "effects-0": 4, "profile-0": 4}
    assert tab.locator("#accuracy-0 [data-kind=arms] [data-arm]").count() == 4 * len(SCORINGS)
    assert tab.locator(".sortable").count() == 2
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator("h1 ~ .lede").inner_text().endswith("not finished")
    assert tab.evaluate("document.querySelector('.missing').getBoundingClientRect().top") < 400


OUTSIDE = """() => [...document.querySelectorAll('svg[data-panel] [data-part="y-axis tick label"] text')]
  .filter((text) => text.getBoundingClientRect().left < text.ownerSVGElement.getBoundingClientRect().left - 0.5)
  .map((text) => text.textContent)"""


@pytest.mark.parametrize("width", [1400, 390])
def test_no_name_is_cut_at_the_edge(browse, page_file, width):
    """A long one is written without its middle where there is no room, and begins and ends as it does."""
    tab = browse(width).open(page_file)
    labels = tab.locator("#contrasts-0 [data-part='y-axis tick label'] text").all_text_contents()

    assert tab.evaluate(OUTSIDE) == []
    (long,) = {label for label in labels if label.startswith("a-name")}
    assert long == SCORINGS[-1] if width == 1400 else ("…" in long and long.endswith("parts"))


@pytest.mark.parametrize(("width", "size", "divided"), [(1400, "tokens", 1), (1400, "held", 1024), (390, "read", 1024)])
def test_a_mark_stands_where_its_arm_was_measured(browse, page_file, width, size, divided):
    """Within a pixel, by the ticks of its own axes: over tokens, and over bytes held and read."""
    tab = browse(width).open(page_file)
    tab.locator("#accuracy-0 select").first.select_option(size)
    tab.get_by_role("button", name="none").click()  # circles, whose middle is that of their box
    panels, arms = tab.evaluate(PLACES, "accuracy-0"), arms_of(page_file)

    n_marks = 0
    for panel in panels:
        x, y = scale(panel["x"], 1), scale(panel["y"], 2)
        for arm, left, top in panel["marks"]:
            assert left == pytest.approx(x(arms[arm][size] / divided), abs=1)
            assert top == pytest.approx(y(100 * arms[arm]["accuracy"]), abs=1)
            n_marks += 1
    assert n_marks == 4 * len(SCORINGS)


def test_pointing_at_a_mark_shows_its_arm(browse, page_file):
    """It is described, the others fade, its name in the list is marked; the same the other way round."""
    tab = browse().open(page_file)
    mark = tab.locator("#accuracy-0 [data-kind=arms] [data-name=knorm]").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)

    grid = tab.locator("#accuracy-0 .panels")
    assert "hovering" in grid.get_attribute("class")
    assert tab.locator("#accuracy-0 .picks li.hovered").get_attribute("data-pick") == "knorm"
    assert "accuracy" in tab.locator("#accuracy-0 [aria-label=tip]").first.text_content()
    assert set(grid.locator(".hovered").evaluate_all("nodes => nodes.map((node) => node.dataset.name)")) == {"knorm"}

    tab.locator("#accuracy-0 .picks li[data-pick=snapkv]").hover()
    assert set(grid.locator(".hovered").evaluate_all("nodes => nodes.map((node) => node.dataset.name)")) == {"snapkv"}
    tab.mouse.move(5, 5)
    assert "hovering" not in grid.get_attribute("class")

    tab.locator("#accuracy-0 .picks li[data-pick=snapkv]").hover()
    tab.locator("#accuracy-0 select").nth(1).select_option(index=1)  # as by keyboard: the pointer stays where it is
    assert "hovering" not in grid.get_attribute("class")  # of what was drawn before, nothing is left to stand out


def test_arms_are_picked_from_the_list(browse, page_file):
    """At most six; one that is put back makes room, and the others keep their colours; the search narrows the list."""
    tab = browse().open(page_file)
    boxes = tab.locator("#accuracy-0 .picks input")
    assert (tab.locator(".picks input:checked").count(), tab.locator(".picks input:disabled").count()) == (6, 3)
    before = tab.evaluate(COLOURS)
    assert len(set(before.values())) == 6

    name = boxes.first.locator("xpath=ancestor::li").get_attribute("data-pick")
    boxes.first.uncheck()
    tab.locator("#accuracy-0 .picks input:not(:checked)").last.click()
    after = tab.evaluate(COLOURS)
    assert len(after) == 6
    assert {arm: after[arm] for arm in after if arm in before} == {
        arm: hue for arm, hue in before.items() if arm != name
    }

    tab.get_by_role("searchbox").fill("long")
    assert tab.locator(".picks li").all_inner_texts() == ["a-name/that-is-long/and-has-parts"]


def test_panels_follow_the_choice(browse, page_file):
    """By an axis, by one budget, and only what is highlighted."""
    tab = browse().open(page_file)
    selects = tab.locator("#accuracy-0 .controls select")
    marks = tab.locator("#accuracy-0 [data-kind=arms] [data-arm]")

    selects.nth(2).select_option("protect")
    titles = tab.locator("#accuracy-0 h4").all_inner_texts()
    panels = {f"protect: {level} · {model}" for level in ("prompt", "none") for model in ("llama", "qwen2")}
    assert (len(titles), set(titles)) == (4, panels)
    selects.nth(1).select_option(index=1)
    assert marks.count() == 2 * len(SCORINGS)
    selects.nth(3).select_option("picked")
    assert marks.count() == 2 * 6
    selects.nth(2).select_option("nothing")
    assert tab.locator("#accuracy-0 svg[data-panel]").count() == 1


def test_contrasts_are_against_the_chosen_arm(browse, page_file):
    """The reference at first; arms of other sizes have no mark but words."""
    tab = browse().open(page_file)
    marks = tab.locator("#contrasts-0 [data-kind=contrasts] [data-name]")
    assert marks.count() == 4 * len(SCORINGS)
    tab.locator("#contrasts-0 select").first.select_option("knorm")
    assert (
        tab.locator("#contrasts-0 svg").first.get_attribute("aria-label").startswith("Difference in accuracy to knorm")
    )
    assert marks.count() == 4 * (len(SCORINGS) - 2)  # itself, and the arm that held more
    assert tab.locator("#contrasts-0 svg").first.get_by_text("not comparable").count() == 1


def column(tab, at: int) -> list[list[str]]:
    """Return the cells of one column of the first table, group by group."""
    return [
        body.locator(f"tr:not(.group) > :nth-child({at})").all_inner_texts()
        for body in tab.locator(".sortable").first.locator("tbody").all()
    ]


def test_the_table_sorts_by_click_and_by_key(browse, page_file):
    """Within each budget, or across; the heading says which way, and keeps the focus."""
    tab = browse().open(page_file)
    heading = tab.locator(".sortable").first.locator("thead th").nth(1)
    heading.locator("button").click()
    falling = [[float(cell) for cell in group] for group in column(tab, 2)]
    assert falling == [sorted(group, reverse=True) for group in falling]
    assert heading.get_attribute("aria-sort") == "descending"

    tab.keyboard.press("Enter")
    rising = [[float(cell) for cell in group] for group in column(tab, 2)]
    assert rising == [sorted(group) for group in falling]
    assert heading.get_attribute("aria-sort") == "ascending"

    tab.get_by_label("sort across budgets").first.check()
    (together,) = column(tab, 2)
    assert [float(cell) for cell in together] == sorted(value for group in falling for value in group)


def test_groups_fold_and_columns_are_chosen(browse, page_file):
    """Both by keyboard."""
    tab = browse().open(page_file)
    table = tab.locator(".sortable").first
    n_rows, n_columns = table.locator("tbody tr").count(), table.locator("thead th").count()
    fold = table.locator("[data-group]").nth(1)
    fold.focus()
    tab.keyboard.press("Enter")
    assert (fold.get_attribute("aria-expanded"), table.locator("tbody tr").count()) == ("false", n_rows - len(SCORINGS))
    tab.keyboard.press("Enter")
    assert (fold.get_attribute("aria-expanded"), table.locator("tbody tr").count()) == ("true", n_rows)

    picker = tab.locator(".picker").first
    picker.locator("summary").focus()
    tab.keyboard.press("Enter")
    picker.get_by_label("peak, tokens").focus()
    tab.keyboard.press("Space")
    assert table.locator("thead th").count() == n_columns + 1
    assert "peak, tokens" in table.locator("thead").inner_text()


def test_the_first_column_stays_in_sight(browse, page_file):
    """On a phone the table scrolls under the names, and its edge says that there is more."""
    tab = browse(390).open(page_file)
    region = tab.locator(".live .scroll").first
    assert "more" in region.get_attribute("class")
    left = "node => node.querySelector('tbody tr:not(.group) th').getBoundingClientRect().left"
    before = region.evaluate(left)
    region.evaluate("node => { node.scrollLeft = 10000; }")
    tab.wait_for_timeout(100)
    assert region.evaluate(left) == pytest.approx(before, abs=1)
    assert "more" not in region.get_attribute("class")


@pytest.mark.parametrize(("number", "name", "n_rows"), [(0, "accuracy", 38), (1, "contrasts", 36), (3, "profile", 10)])
def test_figures_and_their_data_are_saved(browse, page_file, tmp_path, number, name, n_rows):
    """CSV with a line for each arm, SVG without variables of the page, PNG."""
    tab = browse(1400, "dark").open(page_file)
    figure = tab.locator(".figure").nth(number)
    saved = {}
    for kind in ("CSV", "SVG", "PNG"):
        with tab.expect_download() as download:
            figure.get_by_role("button", name=kind).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved[kind] = path
    assert {path.name for path in saved.values()} == {f"grid-{name}-chain-dev.{kind}" for kind in ("csv", "svg", "png")}
    assert len(saved["CSV"].read_text().splitlines()) == 1 + n_rows
    drawing = saved["SVG"].read_text(encoding="utf-8")
    assert "var(--" not in drawing
    assert drawing.count("<svg") > 1
    assert saved["PNG"].read_bytes().startswith(b"\x89PNG")


def test_paper_has_every_column(browse, page_file, tmp_path):
    """Of every arm, within the sheet; what was folded is open."""
    pdf = tmp_path / "page.pdf"
    tab = browse().open(page_file)
    tab.pdf(path=pdf, format="A4")
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext: apt-get install poppler-utils")
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    words = " ".join(text.split())
    for column_ in ARM_COLUMNS:
        last = column_.heading.split()[-1]
        assert last in words, column_.heading
    assert "study: grid" in words
    tab.set_viewport_size({"width": 718, "height": 1000})  # an A4 sheet less its margins, at 96 pixels an inch
    tab.emulate_media(media="print")
    edges = tab.evaluate(
        "[...document.querySelectorAll('.blocks table')].map((table) => table.getBoundingClientRect().right)"
    )
    assert len(edges) == 2 * 4
    assert max(edges) <= 718
    headings = tab.locator(".blocks").first.locator("thead th").all_inner_texts()
    assert {column_.heading for column_ in ARM_COLUMNS} <= set(headings)


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_nothing_serious(browse, page_file, width, scheme):
    """By axe-core, in both schemes and widths, with everything unfolded."""
    if not AXE.is_file():
        pytest.skip("needs axe-core: make test-browser")
    tab = browse(width, scheme).open(page_file)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document)")
    serious = [violation for violation in found["violations"] if violation["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


def test_without_scripts_every_number_is_there(browse, page_file):
    """The tables of all columns stand in for the one that sorts."""
    tab = browse(java_script_enabled=False).open(page_file)
    assert tab.locator(".blocks table").first.is_visible()
    assert tab.get_by_text("need scripts").is_visible()


def test_labels_are_text_to_the_scripts_too(browse, table, write):
    """In figures, lists, tables and what is pointed at."""
    evil = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'
    place = table.schema.get_field_index("mechanism")
    names = [evil if name == "h2o" else name for name in table["mechanism"].to_pylist()]
    field = table.schema.field(place)
    hostile = table.set_column(place, field, pa.array(names).cast(field.type))
    window = browse()
    tab = window.open(write(hostile, title=evil))
    tab.locator("#accuracy-0 .picks li").first.hover()
    assert window.said == []
    assert tab.locator("img").count() == 0
    assert tab.locator(".picks li").filter(has_text="onerror").count() == 1


def test_a_page_of_nothing_opens(browse, table, write):
    """No rows; rows that nobody has graded; references alone."""
    window = browse()
    tab = window.open(write(table.slice(0, 0)))
    assert tab.get_by_text("No rows yet").is_visible()
    tab = window.open(write(table.slice(0, 24)))
    assert tab.get_by_text("nothing to draw").is_visible()
    assert window.said == []
