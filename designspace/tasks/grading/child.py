"""The sandboxed process: compares two LaTeX answers with math-verify, one JSON line in, one JSON line out.

Run by file path, never imported by the parent, and importing nothing of this package: its memory limit would not
survive the package's own imports. Only math-verify's LaTeX parser is used: its plain-expression reader ends in
``eval``.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

N_MEMORY_BYTES = 2 * 1024**3
N_OPEN_FILES = 32
N_DIGITS = 30  # of the numbers whose difference is looked at …
RELATIVE = 1e-12  # … and what of them may be lost on the way
SPARE_S = 10  # a child whose parent was killed in mid-item must not spin for ever


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (N_MEMORY_BYTES, N_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (N_OPEN_FILES, N_OPEN_FILES))


def _compare(gold: str, answer: str, n_decimals: int) -> dict[str, Any]:
    from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-untyped, unused-ignore]

    config = [LatexExtractionConfig(boxed_match_priority=-1)]
    parsed = [parse(f"${text}$", config, parsing_timeout=None) for text in (gold, answer)]
    if not all(parsed):
        return {"equal": False, "parsed": False}
    # Both time limits inside math-verify are off: they rest on SIGALRM, which C code ignores. The parent kills instead.
    equal = any(_verify_pair(verify, g, a, n_decimals) for g in parsed[0] for a in parsed[1])
    if not equal and any(_has_imaginary(side) for side in parsed):
        pairs = [(_with_imaginary(g), _with_imaginary(a)) for g in parsed[0] for a in parsed[1]]
        equal = any(_verify_pair(verify, g, a, n_decimals) for g, a in pairs)
    return {"equal": equal, "parsed": True}


def _has_imaginary(side: list[Any]) -> bool:
    return any(symbol.name == "i" for part in side for symbol in getattr(part, "free_symbols", ()))


def _with_imaginary(part: Any) -> Any:
    """Turn the symbol ``i``, which the parser leaves a symbol, into the imaginary unit: (2+i)(2-i) is 5."""
    from sympy import I  # type: ignore[import-untyped, unused-ignore]

    symbols = getattr(part, "free_symbols", ())
    return part.subs({symbol: I for symbol in symbols if symbol.name == "i"}) if symbols else part


def _verify_pair(verify: Any, gold: Any, answer: Any, n_decimals: int) -> bool:
    try:
        # math-verify rounds before it compares, which makes all small numbers one.
        return not _differ_exactly(gold, answer) and bool(
            verify(
                gold,
                answer,
                float_rounding=n_decimals,
                allow_set_relation_comp=True,  # `x > 2` and `(2, oo)` say the same, whichever side writes which
                timeout_seconds=None,
                raise_on_error=True,
            )
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:  # sympy raises nearly anything on odd input; an incomparable pair is an unequal pair
        return False


def _differ_exactly(gold: Any, answer: Any) -> bool:
    """Tell whether somewhere in both there are numbers without any decimal in them that are not the same."""
    from sympy import Expr, FiniteSet, Float, Interval, MatrixBase, Tuple  # type: ignore[import-untyped, unused-ignore]
    from sympy.core.relational import Relational  # type: ignore[import-untyped, unused-ignore]

    if all(isinstance(x, Expr) and x.is_number and not x.has(Float) for x in (gold, answer)):
        difference, size = (gold - answer).evalf(N_DIGITS), max(abs(gold.evalf(N_DIGITS)), abs(answer.evalf(N_DIGITS)))
        return bool(difference.is_finite and abs(difference) > RELATIVE * size)
    if isinstance(gold, FiniteSet) and isinstance(answer, FiniteSet):
        return any(all(_differ_exactly(g, a) for a in answer.args) for g in gold.args)
    if isinstance(gold, Relational) and isinstance(answer, Relational):
        return bool(gold.lhs == answer.lhs) and _differ_exactly(gold.rhs, answer.rhs)
    ordered = (Tuple, Interval, MatrixBase)
    if isinstance(gold, ordered) and isinstance(answer, ordered):
        parts = [list(x) if isinstance(x, MatrixBase) else list(x.args) for x in (gold, answer)]
        return any(_differ_exactly(g, a) for g, a in zip(*parts, strict=False))
    return False


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _compare(request["gold"], request["answer"], request["n_decimals"])
    except (MemoryError, RecursionError) as error:
        return {"error": type(error).__name__}
    except Exception as error:  # the parent needs a reply for every line; it books this as grader_error
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


def main() -> None:
    """Serve comparisons until standard input closes."""
    _limit_resources()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a stray print inside a library must not corrupt the protocol
    import logging

    logging.disable(logging.CRITICAL)
    _compare("x", "y", 6)  # pay for the imports and the parser tables before the first deadline runs
    # Set only now, so that the imports could still write their bytecode caches.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # The default action of SIGALRM ends the process from the kernel, even in the middle of C code.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    replies.write('{"ready": true}\n')
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(int(request["deadline_s"]) + SPARE_S)
        reply = _answer(request)
        signal.alarm(0)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
