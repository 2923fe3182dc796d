"""Rules that parameters of several tests share."""

from __future__ import annotations

from designspace.errors import DeclarationError


def check_open_unit(**values: float) -> None:
    """Raise DeclarationError for a value that is not strictly between 0 and 1."""
    problems = [
        f"{name} must be between 0 and 1, both excluded, got {name}={value}"
        for name, value in values.items()
        if not 0 < value < 1
    ]
    if problems:
        raise DeclarationError(problems)


def check_positive(**values: float) -> None:
    """Raise DeclarationError for a value that is not above 0."""
    problems = [f"{name} must be above 0, got {name}={value}" for name, value in values.items() if not value > 0]
    if problems:
        raise DeclarationError(problems)
