"""The command that makes a model folder of a GGUF file: `designspace import FILE --out FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from designspace.cli.options import AsJson, print_json


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The model folder to make; it must not be there yet.")],
    as_json: AsJson = False,
) -> None:
    """Import a GGUF file: make a folder of bfloat16 safetensors of it, with tokenizer and chat template.

    Nothing is done where the folder was made of the same file before. What transformers' reader would pass over is refused by
    name, so that the folder is the file's model or is not there.
    """
    from designspace.models.gguf_import import import_gguf

    origin = import_gguf(file, out, lambda line: typer.echo(line, err=True))
    if as_json:
        print_json(origin)
        return
    types = ", ".join(f"{n} {name}" for name, n in origin["tensor_types"].items())
    typer.echo(f"{out}: {origin['architecture']}, of {origin['file']} with tensors of {types}")
    typer.echo(f"content: {origin['content']}")
