"""The command that looks into one text: what its cache held, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from designspace.cli.options import AsJson, ResultsFolder, print_json
from designspace.errors import StoreError

if TYPE_CHECKING:
    from cluster.retrace import TracedText

_NAMED = 5  # look-ups that are printed


def trace(
    results: ResultsFolder,
    problem: Annotated[str, typer.Argument(help="The problem's id, e.g. trace-dev-00001.")],
    arms: Annotated[list[str], typer.Argument(help="One mechanism by its name, or several to see side by side.")],
    model: Annotated[str | None, typer.Option(help="Of several models, this one.")] = None,
    budget: Annotated[str | None, typer.Option(help="Of several budgets, this one, as the report writes it.")] = None,
    task: Annotated[str | None, typer.Option(help="Of several tasks, this one.")] = None,
    split: Annotated[str | None, typer.Option(help="Of several splits, this one.")] = None,
    replicate: Annotated[int | None, typer.Option(help="Of several replicates, this one.")] = None,
    study: Annotated[str | None, typer.Option(help="Of several studies, this one.")] = None,
    sweep: Annotated[Path | None, typer.Option(help="The sweep file [its text in the results].")] = None,
    least_weight: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Smallest attention that counts as looking a token up.")
    ] = 0.1,
    html: Annotated[Path | None, typer.Option(help="Page to write [retention-PROBLEM.html].")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Also write the changes of what each head held to this Parquet file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run stored texts again and map what their caches held: a page with the text coloured by survival.

    The texts come out token by token as they are stored, or the command says that they do not. A budget does not matter to a
    mechanism that takes none, such as full.
    """
    from cluster.retrace import retrace
    from designspace.report.retention import write_retention_page

    given = {
        "model": model, "budget": budget, "task": task, "split": split, "replicate": replicate, "study": study
    }  # fmt: skip
    choice = {name: value for name, value in given.items() if value is not None}
    traced = []
    for arm in dict.fromkeys(arms):
        found = retrace(results, problem, arm, choice=choice, sweep=sweep, least_weight=least_weight)
        for note in found.notes:
            typer.echo(note, err=True)
        traced.append(found)
        if not as_json:
            typer.echo(_said(found))
    documents = [found.document() for found in traced]
    path = write_retention_page(documents, html or Path(f"retention-{problem}.html"), f"What the cache held: {problem}")
    if table is not None:
        _write_changes(traced, table)
    if as_json:
        print_json(documents)
    else:
        typer.echo(f"page: {path}")


def _said(traced: TracedText) -> str:
    """Return a text's record in a few lines."""
    document, lookups = traced.document(), traced.lookups
    steps = len({change.step for change in traced.record.changes})
    lines = [
        f"{document['name']}: {document['about']}",
        f"  {document['n_steps']} steps, tokens left the cache at {steps} of them; {len(lookups)} times a head had evicted a "
        f"token that the full cache would have looked up later (attention of at least {traced.least_weight:g})",
    ]
    for found in lookups[:_NAMED]:
        token, query = (traced.tokens[place].strip() for place in (found.position, found.by))
        asked = max(0, found.by - traced.record.n_prompt_tokens + 1)
        lines.append(
            f"  {token!r} (position {found.position}) left layer {traced.layers[found.layer]} head {found.head} at step "
            f"{found.step}; {query!r} would have paid it {found.weight:.2f} at step {asked}"
        )
    return "\n".join(lines)


def _write_changes(traced: list[TracedText], path: Path) -> None:
    """Write the changes of all texts as one table.

    Raises:
        StoreError: the file cannot be written.
    """
    import pyarrow.parquet as pq

    from cluster.retention_table import retention_table

    table = retention_table({found.labels["mechanism"]: found.record for found in traced})
    try:
        pq.write_table(table, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
