"""Run math-verify in a killable child process: memory-limited, timed from outside, respawned after a kill.

The child is started on first use and by file path, so that nothing of the caller's ``__main__`` is imported again; it
works off the main thread, inside Ray actors and in notebooks. One request is in flight at a time.
"""

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, Self

from designspace.errors import require

DEADLINE_S = (
    10.0  # three times what the slowest answers take alone: a verdict must not depend on what else a machine does
)
START_DEADLINE_S = 60.0  # a cold import from a slow disk, possibly compiling bytecode

_CHILD = Path(__file__).with_name("child.py")
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")


Outcome = Literal["equal", "unequal", "timeout", "error"]


class Verdict(NamedTuple):
    """What came of a comparison; ``detail`` says why where that is not plain."""

    outcome: Outcome
    detail: str = ""


class Sandbox:
    """A lazily started child process that decides whether two LaTeX answers are equal.

    Args:
        deadline_s: wall-clock limit per comparison; the child is killed when it runs past it.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self.n_spawned = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        # Protects the pipe: replies carry no id, so two threads must not interleave their requests.
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the running child, None when there is none."""
        return None if self._child is None else self._child.pid

    def compare(self, gold: str, answer: str, n_decimals: int = 6) -> Verdict:
        """Decide whether ``answer`` equals ``gold`` (both undelimited LaTeX), decimals to ``n_decimals`` places.

        Never raises on account of the input.

        Raises:
            MissingExtra: math-verify is not installed; every answer would look ungradable.
        """
        item = {"gold": gold, "answer": answer, "n_decimals": n_decimals, "deadline_s": self.deadline_s}
        request = json.dumps(item).encode() + b"\n"
        with self._lock:
            # An idle child may have been killed from outside (memory pressure); one fresh start is worth it.
            for attempt in range(2):
                was_idle = self._child is not None
                if not self._ensure_child():
                    return Verdict("error", "the grading process did not start")
                verdict = self._exchange(request)
                if verdict is not None or not was_idle or attempt == 1:
                    break
        return Verdict("error", "the grading process died") if verdict is None else verdict

    def close(self) -> None:
        """Kill the child, if any; a later comparison starts a fresh one."""
        child, self._child, self._buffer = self._child, None, b""
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                _close_quietly(pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_child", None) is not None:
            self.close()

    def _ensure_child(self) -> bool:
        if self._child is not None and self._child.poll() is None:
            return True
        self.close()
        require("math_verify")
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_child_environment(),
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is for the parent to handle
        )
        self.n_spawned += 1
        if self._read_reply(START_DEADLINE_S) != {"ready": True}:
            self.close()
            return False
        return True

    def _exchange(self, request: bytes) -> Verdict | None:
        """Send one request and wait for its reply; None when the child died without one."""
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
            reply = self._read_reply(self.deadline_s)
        except BrokenPipeError:
            reply = {}
        except BaseException:
            self.close()  # interrupted in mid-item: the pending reply must not answer the next request
            raise
        if reply is None:
            self.close()
            return Verdict("timeout", f"no verdict within {self.deadline_s:g} s")
        if not reply:
            self.close()
            return None
        if "error" in reply:
            self.close()  # after a memory error the interpreter's state is not to be trusted
            return Verdict("error", str(reply["error"]))
        return Verdict("equal" if reply["equal"] else "unequal")

    def _read_reply(self, limit_s: float) -> dict[str, Any] | None:
        """Read one JSON line: None when the time is up, an empty dict when the child closed its pipe."""
        assert self._child is not None
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        # poll, not select: a worker with thousands of open files has descriptors that select refuses
        poller = select.poll()
        poller.register(fd, select.POLLIN | select.POLLHUP)
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not poller.poll(remaining_s * 1000):
                return None
            chunk = os.read(fd, 65536)
            if not chunk:
                return {}
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply


def _close_quietly(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # unsent bytes for a dead child
        pipe.close()


def _child_environment() -> dict[str, str]:
    """Pass on what Python needs to find math-verify, and nothing else: no tokens, no user settings."""
    env = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    spec = importlib.util.find_spec("math_verify")
    if spec is not None and spec.origin is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(Path(spec.origin).parents[1])]))
    # Some of sympy's orderings follow the hash seed; a verdict must not depend on the process.
    return env | {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
