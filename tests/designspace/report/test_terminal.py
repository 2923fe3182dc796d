"""The tables fit a narrow terminal, carry no codes in a file, and obey no label."""

from __future__ import annotations

import io

import pyarrow as pa
from rich.console import Console

from designspace.report import notes, print_report, summarise


def shown(arms, found=(), width=80, **options):
    """What is printed at a width."""
    stream = io.StringIO()
    print_report(arms, found, Console(file=stream, width=width, **options))
    return stream.getvalue()


def test_figures_and_marks_are_there(small):
    """Accuracy, interval, extraction, share of texts cut, mean and length, and `unmatched` on its arm only."""
    text = shown(summarise(small), notes(summarise(small)))
    line = next(line for line in text.splitlines() if "r-kv" in line)
    assert line.split() == ["r-kv", "75.0", "30.1–95.4", "100", "100", "–", "48.0", "100"]
    assert [line.split()[0] for line in text.splitlines() if line.rstrip().endswith("  unmatched")] == ["greedy"]
    assert text.index("no budget") < text.index("budget 48 mean")
    assert "! pocket, chain/dev, budget 48: Do not compare this arm with the others" in text


def test_eighty_columns_suffice(make_table):
    """Long names fold; no figure is cut off."""
    name = "a-mechanism-with-a-name-that-somebody-thought-clever"
    big = {"mechanism": name, "mean_cache_tokens": 31234.5, "peak_cache_tokens": 32768.0, "n_new_tokens": 32768}
    text = shown(summarise(make_table(big, big | {"mechanism": "other", "mean_cache_tokens": 9.0})))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for figure in ("31,234.5", "32,768", "20.7–100.0"):
        assert figure in text
    assert name in "".join(line.split()[0] if line.split() else "" for line in text.splitlines())


def test_no_colour_codes_outside_a_terminal(small):
    """A file or a pipe gets plain text; a terminal gets bold headings."""
    assert "\x1b" not in shown(summarise(small))
    assert "\x1b" in shown(summarise(small), force_terminal=True)


def test_labels_are_shown_not_obeyed(make_table):
    """Markup and control characters in a name do nothing."""
    text = shown(
        summarise(make_table({"mechanism": "[red]x[/red]\x1b[31m", "model": "[bold]m"})), ["[link]\x07 a note"]
    )
    assert "[red]x[/red]" in text
    assert "[bold]m" in text
    assert "! [link]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_what_is_missing_is_printed_first(small):
    """Before the table, where nobody can overlook it; also where there is no row yet."""
    stream = io.StringIO()
    print_report(summarise(small), ["a note"], Console(file=stream, width=80), missing=["5 of 9 shards"])
    text = stream.getvalue()

    assert text.startswith("! 5 of 9 shards\n")
    assert text.rstrip().endswith("! a note")
    stream = io.StringIO()
    print_report([], [], Console(file=stream, width=80), missing=["0 of 9 shards"])
    assert stream.getvalue() == "! 0 of 9 shards\nno rows yet\n"


def test_the_number_of_problems_is_in_the_heading(small):
    """One number, because arms are compared on common problems; none where they differ."""
    assert shown(summarise(small)).startswith("pocket · chain/dev · 4 problems")
    more = small.slice(0, 3)
    assert "problem" not in shown(summarise(pa.concat_tables([more, small.slice(4, 1)]))).splitlines()[0]


def test_no_rows_yet():
    """An empty study says so."""
    assert shown([]) == "no rows yet\n"
