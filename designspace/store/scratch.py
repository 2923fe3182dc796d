"""Scratch files: what they are called, whose they are, and which of them a killed process left behind."""

from __future__ import annotations

import os
import re
import secrets
import socket
from contextlib import suppress
from pathlib import Path

STALE_AFTER_S = 24 * 3600.0

_NAME = re.compile(r"(?:(?P<host>[0-9A-Za-z.-]+)~)?(?P<pid>\d+)-[0-9a-f]{16}-")


def scratch_name(target: str) -> str:
    """Return a name that no other process or call gives: host, process, random digits, and the end of the target's."""
    return f"{_host()}~{os.getpid()}-{secrets.token_hex(8)}-{target[-64:]}"


def is_being_written(path: Path) -> bool:
    """Return whether a process that runs on this host now made a scratch file, judged by its name.

    A name without a host is from before hosts were named: the process is looked for here.
    """
    found = _NAME.match(path.name)
    if found is None or found["host"] not in (None, _host()):
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def sweep_scratch(scratch: Path) -> list[Path]:
    """Remove scratch files that a killed process left behind more than a day ago, and return them.

    Ages are taken by the clock of the file system, which stamps the files of every machine: this machine's own clock may be
    a day ahead. What a live process of this host is writing stays, whatever its age.
    """
    swept = []
    # Another process may sweep at the same moment, and a store may be read-only: neither is an error.
    with suppress(OSError):
        left = [path for path in sorted(scratch.iterdir()) if not is_being_written(path)]
        now_s = file_system_time_s(scratch) if left else 0.0
        for path in left:
            with suppress(OSError):
                if now_s - path.stat().st_mtime > STALE_AFTER_S:
                    path.unlink()
                    swept.append(path)
    return swept


def file_system_time_s(folder: Path) -> float:
    """Return the time by which a file made in the folder at this moment is stamped."""
    probe = folder / scratch_name("clock")
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        probe.unlink()


def _host() -> str:
    return re.sub(r"[^0-9A-Za-z.-]", "-", socket.gethostname())[:24] or "host"
