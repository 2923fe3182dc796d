"""`python -m designspace` is the `designspace` command."""

from designspace.cli import main

if __name__ == "__main__":
    main()
