"""The problem browser: what it lists is what the rows say, and nobody but this machine is answered."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from designspace.report import declared_study
from designspace.report.page_problems import problems_data
from designspace.store import ResultsStore
from designspace.view import Filter, Index, ViewServer
from designspace.view.one_problem import problem_page
from tests.designspace.query.stored_study import KINDS, N_PROBLEMS, solves, text_tokens, write_study
from tests.designspace.view.served import served

HERE = Filter("trace-llama", "trace-recall", "dev", "80", 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultsStore:
    """The full cache and four arms at two budgets on twelve problems."""
    return write_study(tmp_path_factory.mktemp("view") / "quickstart")


@pytest.fixture(scope="module")
def index(store: ResultsStore) -> Index:
    """Its index."""
    return Index(store, declared_study(store))


def ids(found: dict[str, Any]) -> list[str]:
    """Return the ids of the listed problems."""
    return [problem["problem_id"] for problem in found["problems"]]


def named(problem: int) -> str:
    """Return the id of a problem."""
    return f"trace-dev-{problem:05d}"


def test_places_have_the_arms_of_their_budget_and_those_without_one(index: Index) -> None:
    """By the budget's number, not as a word: 80 before 112."""
    assert [place["budget"] for place in index.places()] == ["80", "112"]
    for place in index.places():
        assert place["arms"] == ["alpha+none", "full", "h2o+none", "snapkv+none", "triattention+none"]
        assert place["kinds"] == sorted(KINDS)


@pytest.mark.parametrize("budget", [80, 112])
def test_right_in_one_arm_and_wrong_in_another(index: Index, budget: int) -> None:
    """As the rows were written."""
    wanted = replace(HERE, budget=str(budget), a="alpha+none", b="h2o+none", verdict_a="right", verdict_b="wrong")
    expected = [
        named(i) for i in range(N_PROBLEMS) if solves("alpha+none", budget, i) and not solves("h2o+none", budget, i)
    ]
    found = index.problems(wanted)
    assert ids(found) == expected
    assert (found["n_fitting"], found["n_problems"]) == (len(expected), N_PROBLEMS)
    assert all(problem["a"] and not problem["b"] for problem in found["problems"])


def test_kind_search_and_what_is_cut_off(index: Index) -> None:
    """No text here was cut off."""
    assert ids(index.problems(replace(HERE, kind=KINDS[1]))) == [named(i) for i in range(1, N_PROBLEMS, 2)]
    assert ids(index.problems(replace(HERE, search="dev-0001"))) == [named(i) for i in range(10, N_PROBLEMS)]
    assert ids(index.problems(replace(HERE, a="full", verdict_a="cut off"))) == []


def test_pages_follow_one_another(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem once."""
    monkeypatch.setattr("designspace.view.index.PAGE_SIZE", 5)
    pages = [ids(index.problems(replace(HERE, page=page))) for page in range(4)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [name for page in pages for name in page] == [named(i) for i in range(N_PROBLEMS)]


def test_a_problem_has_every_text_and_where_it_leaves_the_other(store: ResultsStore, index: Index) -> None:
    """By tokens and by characters."""
    found = problem_page(store, index, HERE, named(5), "full")
    assert found is not None
    assert [text["mechanism"] for text in found["texts"]] == [
        "alpha+none", "full", "h2o+none", "snapkv+none", "triattention+none"
    ]  # fmt: skip
    full = " ".join(f"t{token}" for token in text_tokens("full", None, 5))
    assert {text["prompt_text"] for text in found["texts"]} == {"<user>Solve: 1 + 1<assistant>"}
    for text in found["texts"]:
        budget = None if text["mechanism"] == "full" else 80
        right = solves(text["mechanism"], budget, 5)
        assert (text["correct"], text["extracted"]) == (right, "5" if right else "7")
        place = None if right else 5 + len(text["mechanism"]) % 7
        assert text["leaves_at_token"] == place
        if place is not None:
            at = text["leaves_at"]
            assert text["text"][:at] == full[:at] and text["text"][at] != full[at]
    assert problem_page(store, index, HERE, "none-such", "full") is None


def test_texts_that_were_fed_are_no_arm(store: ResultsStore) -> None:
    """They are no answers; the page of a report leaves them out as well."""
    rows = store.samples().to_table()
    place = rows.schema.get_field_index("forced_of")
    fed = pa.array(["full" if name == "h2o+none" else None for name in rows["mechanism"].to_pylist()], type=pa.string())
    rows = rows.set_column(place, "forced_of", fed)

    class Stored:
        root = store.root

        def samples(self, columns: list[str], cell_ids: object = None) -> ds.Dataset:
            return ds.dataset(rows.select(columns))

    index = Index(Stored(), declared_study(store))  # type: ignore[arg-type]
    data = problems_data(rows, "quickstart", "results/quickstart")
    assert data is not None
    assert all("h2o+none" not in place["arms"] for place in [*index.places(), *data["places"]])
    assert index.places() == data["places"]


@pytest.fixture(scope="module")
def server(store: ResultsStore) -> Iterator[ViewServer]:
    """A server in a thread."""
    with served(store) as made:
        yield made


def get(server: ViewServer, path: str, host: str | None = None, **values: object) -> tuple[int, str, bytes]:
    """Return status, type and body of an answer."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    headers = {} if host is None else {"Host": host}
    connection.request("GET", f"{path}?{urlencode(values)}" if values else path, headers=headers)
    answer = connection.getresponse()
    return answer.status, str(answer.getheader("Content-Type")), answer.read()


def test_the_server_gives_the_page_and_the_same_data(server: ViewServer, index: Index) -> None:
    """As the index has it."""
    assert urlsplit(server.url).hostname == "127.0.0.1"
    for path, kind in (
        ("/", "text/html"),
        ("/problems.js", "text/javascript"),
        ("/view.css", "text/css"),
        ("/problems.css", "text/css"),
    ):
        status, found, body = get(server, path)
        assert (status, found.split(";")[0]) == (200, kind) and body
        assert b"http://" not in body and b"https://" not in body
    place = {"model": "trace-llama", "task": "trace-recall", "split": "dev", "budget": "80", "replicate": 0}
    status, _, body = get(server, "/api/problems", **place, a="alpha+none", verdict_a="right")
    wanted = replace(HERE, a="alpha+none", verdict_a="right")
    assert (status, json.loads(body)) == (200, index.problems(wanted))
    status, _, body = get(server, "/api/problem", **place, problem=named(3), against="full")
    assert (status, json.loads(body)["problem_id"]) == (200, named(3))
    assert json.loads(get(server, "/api/places")[2])["places"] == index.places()


def test_what_is_not_there_and_what_is_wrong_is_said(server: ViewServer) -> None:
    """In a line, and the server goes on."""
    assert get(server, "/api/problem", problem="none-such")[0] == 404
    assert get(server, "/../pyproject.toml")[0] == 404
    status, _, body = get(server, "/api/problems", verdict_a="maybe")
    assert (status, json.loads(body)["error"]) == (400, "no verdict 'maybe'")
    assert get(server, "/")[0] == 200


def test_another_name_for_this_machine_is_not_answered(server: ViewServer) -> None:
    """A page elsewhere could otherwise read the results under a name of its own that leads here."""
    assert get(server, "/api/places", host="example.org")[0] == 403
    assert get(server, "/api/places", host="localhost:1234")[0] == 200


def test_texts_that_cannot_be_read_are_said_on_the_page(tmp_path: Path) -> None:
    """The server is there; the page says why it shows nothing."""
    store = write_study(tmp_path / "quickstart")
    server = ViewServer.__new__(ViewServer)
    server.store, server.study, server.index, server.failure = store, "quickstart", None, "no room"
    assert server.answer("/api/places", {}) == {"reading": False, "failure": "no room", "study": "quickstart"}
