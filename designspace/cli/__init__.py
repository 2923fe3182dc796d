"""The `designspace` command."""

from designspace.cli.app import app, main

__all__ = ["app", "main"]
