"""The command that tries a model out: `designspace check MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from designspace.cli.options import AsJson, model_spec, print_json


def check(
    model: Annotated[str, typer.Argument(help="A bundled model, a model folder, a GGUF file, or a model of --sweep.")],
    sweep: Annotated[Path | None, typer.Option(help="Sweep file that declares the model.")] = None,
    device: Annotated[str, typer.Option(help="Where: cpu, cuda or cuda:N.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Try a model out under slot attention, next to transformers' own, and show what was found."""
    from designspace.models.loading import load_model

    loaded = load_model(model_spec(model, sweep), device, try_out=True)
    geometry, proof = loaded.geometry, loaded.proof
    if proof is None:
        raise typer.Exit(1)
    found: dict[str, Any] = {
        "model_type": loaded.model.config.model_type,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "layers": geometry.n_layers,
        "query_heads": geometry.n_query_heads,
        "kv_heads": geometry.n_kv_heads,
        "head_dim": geometry.head_dim,
        "longest_text_tokens": loaded.longest,
        "chat_template": bool(loaded.tokenizer.chat_template),
        "logits_difference": proof.logits_difference,
        "compared_in": proof.compared_in,
        "rounding_error": proof.rounding_error,
        "unrotation_error": proof.unrotation_error,
        "rotation": geometry.rotation_note or "every layer turns its keys as the configuration says",
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        shown = f"{value:.1e}" if isinstance(value, float) else value
        typer.echo(f"{name}: {shown}")
    typer.echo("accepted: logits as transformers', a row's the same to the bit whatever its batch-mates")
