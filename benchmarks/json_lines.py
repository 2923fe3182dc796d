"""A long-lived process that does what JSON lines on its standard input ask, and the driver's end of it.

Only the standard library: one end may run in an environment where nothing else of this project is installed.
A request is an object with "do", the name of a handler, and its arguments; the answer is an object, or {"error": …}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

ROOT = Path(__file__).resolve().parent.parent
_QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
Handler = Callable[..., dict[str, Any]]


class WorkerFailed(Exception):
    """A worker answered with an error, or died."""


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests until the input ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception:  # the driver raises it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """The driver's end of one process."""

    def __init__(self, module: str, python: str = sys.executable, threads: int | None = None) -> None:
        self._name = module
        limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        environment = {**os.environ, **_QUIET, **limit}
        self._process = subprocess.Popen(
            [python, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def send(self, do: str, **request: Any) -> None:
        """Ask for something, without waiting for it."""
        stream = self._input()
        stream.write(json.dumps({"do": do, **request}) + "\n")
        stream.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the oldest request that is still open.

        Raises:
            WorkerFailed: it did not work, with what the worker said.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self._name} ended with code {self._process.wait()}; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self._name}: {answer['error']}")
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask and wait."""
        self.send(do, **request)
        return self.receive()

    def close(self) -> None:
        """End the process."""
        self._input().close()
        self._process.wait()

    def _input(self) -> TextIO:
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]


class Fleet:
    """Several workers of the same kind that are asked at the same time. Use as a context manager."""

    def __init__(self, module: str, size: int, *, python: str = sys.executable, threads: int | None = None) -> None:
        self.workers = [Worker(module, python, threads) for _ in range(size)]

    def __enter__(self) -> Self:
        """Return the running workers."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.close()

    def ask(
        self, do: str, per_worker: Sequence[Mapping[str, Any]] | None = None, **request: Any
    ) -> list[dict[str, Any]]:
        """Ask all at once, each with what is its own, and wait for all."""
        for worker, own in zip(self.workers, per_worker or [{}] * len(self.workers), strict=True):
            worker.send(do, **request, **own)
        return [worker.receive() for worker in self.workers]

    def timed(self, do: str, **request: Any) -> tuple[float, list[dict[str, Any]]]:
        """Ask all at once; return the seconds until the last has answered, and the answers."""
        started_s = time.perf_counter()
        answers = self.ask(do, **request)
        return time.perf_counter() - started_s, answers
