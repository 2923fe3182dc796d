"""The browser's server: this machine only, reading only, one page and three kinds of data."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Thread
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

from designspace.errors import DesignspaceError
from designspace.report import Declared
from designspace.report.page_problems import FORM
from designspace.store import ResultsStore
from designspace.view.index import Filter, Index, Verdict
from designspace.view.one_problem import problem_page

ADDRESS = "127.0.0.1"
_HERE, _REPORT = "designspace.view", "designspace.report"  # the browser itself is the report's
_FILES = {
    "/": (_HERE, "view.html", "text/html"),
    "/view.css": (_HERE, "view.css", "text/css"),
    "/problems.css": (_REPORT, "problems.css", "text/css"),
    "/problems.js": (_REPORT, "problems.js", "text/javascript"),
}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:"


class ViewServer:
    """Serves the browser of one study. It answers at once; the index of the texts is read beside it.

    Attributes:
        url: of the page.
        failure: why the index could not be read; None while it is being read, and after that.
    """

    def __init__(self, store: ResultsStore, declared: Declared | None, port: int = 0) -> None:
        """Bind to a port of this machine, any free one for 0.

        Raises:
            OSError: the port is taken.
        """
        self.store, self.study = store, store.root.name if declared is None else declared.study
        self.index: Index | None = None
        self.failure: str | None = None
        self._server = ThreadingHTTPServer((ADDRESS, port), _handler(self))
        self._server.daemon_threads = True
        self._reading = Thread(target=self._read, args=(declared,), daemon=True)
        self._reading.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer until somebody interrupts."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """Make `serve` return."""
        self._server.shutdown()

    def wait(self) -> Index:
        """Return the index once it is read.

        Raises:
            DesignspaceError: it could not be.
        """
        self._reading.join()
        if self.index is None:
            raise DesignspaceError(self.failure or "the texts could not be read")
        return self.index

    def _read(self, declared: Declared | None) -> None:
        try:
            self.index = Index(self.store, declared)
        except Exception as error:  # shown on the page, where somebody is looking
            self.failure = str(error)

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """Return the data that a path asks for, None for a path that there is not."""
        if path == "/api/places":
            if self.index is None:
                return {"reading": self.failure is None, "failure": self.failure, "study": self.study}
            return {
                "study": self.study,
                "results": str(self.store.root),
                "n_texts": self.index.n_texts,
                "notes": list(self.index.notes),
                "places": self.index.places(),
            }
        if self.index is None:
            return None
        if path == "/api/problems":
            return self.index.problems(filter_of(query))
        if path == "/api/problem":
            problem, against = query.get("problem", ""), query.get("against", "full")
            return problem_page(self.store, self.index, filter_of(query), problem, against)
        return None


def filter_of(query: dict[str, str]) -> Filter:
    """Return the filter that an address asks for.

    Raises:
        ValueError: a verdict or a number is none.
    """
    verdicts = {name: query.get(name, "any") for name in ("verdict_a", "verdict_b")}
    for verdict in verdicts.values():
        if verdict not in get_args(Verdict):
            raise ValueError(f"no verdict {verdict!r}")
    words = {name: query.get(name, "") for name in ("model", "task", "split", "budget", "a", "b", "kind", "search")}
    numbers = {name: int(query.get(name, "0")) for name in ("replicate", "page")}
    return Filter(**words, **numbers, **verdicts)  # type: ignore[arg-type]


def _handler(view: ViewServer) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for this view."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").split(":")[0] not in (ADDRESS, "localhost"):
                self._send(HTTPStatus.FORBIDDEN, b"this page is for this machine only", "text/plain")
                return
            address = urlsplit(self.path)
            if address.path in _FILES:
                package, name, kind = _FILES[address.path]
                text = (
                    files(package).joinpath("page", name).read_text(encoding="utf-8").replace("<!-- browser -->", FORM)
                )
                self._send(HTTPStatus.OK, text.encode(), f"{kind}; charset=utf-8")
                return
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            try:
                found = view.answer(address.path, query)
            except (DesignspaceError, ValueError) as error:
                self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            status = HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK
            self._send_json(status, {"error": "there is nothing here"} if found is None else found)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent: the terminal belongs to whoever started the server."""

        def _send_json(self, status: HTTPStatus, document: Any) -> None:
            self._send(status, json.dumps(document, allow_nan=False).encode(), "application/json")

        def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    return Handler
