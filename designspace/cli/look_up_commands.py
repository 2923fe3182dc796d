"""Commands that tell what can be named in a sweep: list, show."""

from __future__ import annotations

from typing import Annotated

import typer

from designspace.cli.formats import FormatOption, format_of, print_found, table_of
from designspace.cli.options import (
    AsJson,
    print_json,
)


def list_(
    section: Annotated[
        str | None, typer.Argument(metavar="[AXIS]", help="An axis, mechanisms, models or tasks.")
    ] = None,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
) -> None:
    """List axes with their kinds, mechanisms, models and tasks."""
    from designspace.cli.describe import listing, listing_text

    listed = listing(section)
    entries = [{"section": name, **entry} for name, found in listed.items() for entry in found]
    print_found(
        format_of(file_format, as_json),
        table=lambda: listing_text(listed),
        document=lambda: listed,
        rows=lambda: table_of(entries, ("section", "name", "summary", "citation")),
    )


def show(
    name: Annotated[str, typer.Argument(help="A mechanism, or axis.kind.")],
    budget: Annotated[list[int] | None, typer.Option(min=1, help="Tokens; may be given several times [64].")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a mechanism or strategy: composition, parameters, budget arithmetic, references."""
    from designspace.cli.describe import describe, description_text

    described = describe(name, budget or [64])
    print_json(described) if as_json else typer.echo(description_text(described))
