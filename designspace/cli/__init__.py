"""The `designspace` command."""

import sys

from designspace.errors import missing_extra

__all__ = ["main"]


def main() -> None:
    """Run the command line; without the packages that it is made with, say how to install them."""
    try:
        from designspace.cli.app import main as run
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error)) is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    run()
