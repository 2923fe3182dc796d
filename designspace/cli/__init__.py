"""The `designspace` command."""

from designspace.cli.app import main

__all__ = ["main"]
