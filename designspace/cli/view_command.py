"""The command that opens the problem browser."""

from __future__ import annotations

from typing import Annotated

import typer

from designspace.cli.options import ResultsFolder
from designspace.errors import DeclarationError, require


def view(
    results: ResultsFolder,
    study: Annotated[str | None, typer.Option(help="Of several studies in the folder, this one.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Browse problems and texts in a web page of this machine: right in A and wrong in B, where texts part, their ledgers.

    The page is served to this machine only, until Ctrl-C. Texts are read when they are looked at, so a folder with millions of
    them opens at once.
    """
    import webbrowser

    from designspace.report import declared_study
    from designspace.store import ResultsStore

    require("duckdb")
    from designspace.view import ViewServer

    store = ResultsStore.open(results, create=False)
    declared = declared_study(store, study)
    try:
        server = ViewServer(store, declared, port)
    except OSError as error:
        raise DeclarationError(f"port {port} cannot be listened at: {error.strerror}") from error
    typer.echo(f"{server.url} (Ctrl-C ends it)")
    if browser:
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        typer.echo("closed", err=True)
