"""A worker that needs nothing: the other end of the tests of the JSON lines."""

from __future__ import annotations

from typing import Any

from benchmarks.json_lines import serve


def echo(**request: Any) -> dict[str, Any]:
    """Answer with what was asked; what is printed must not get into the answer."""
    print("noise")
    return request


def fail() -> dict[str, Any]:
    """Fail."""
    raise ArithmeticError("nothing to divide")


if __name__ == "__main__":
    serve({"echo": echo, "fail": fail})
