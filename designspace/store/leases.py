"""Leases on shards: two runs on one store share its work instead of doing it twice.

A run takes a shard by creating `leases/<cell_id>.<shard_id>.json`, which succeeds for one run only. The file names the
run, and the run touches `leases/<run>.run` as long as it lives: that renews all its leases at once. A lease whose run has
not done so for `VALID_S` has expired, and others may take it over; so has one whose process is known to be dead. Ages are
taken by the clock of the file system, which stamps the files of every machine alike.

A lease saves work, it protects nothing. Two runs may still come to hold one shard, after one of them stood still for
minutes say: then the first commit wins, as ever.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from designspace.errors import StoreError
from designspace.store.layout import ShardKey
from designspace.store.scratch import file_system_time_s

RENEW_S = 20.0
# Several renewals may be missed, and NFS may show a time that is a minute old.
VALID_S = 180.0


class Holder(NamedTuple):
    """The run that holds a lease: its own name, where its process numbers mean anything, and its process."""

    run: str
    place: str
    pid: int

    @property
    def is_dead(self) -> bool:
        """Whether its process is known to be gone; False where that cannot be known, as on another machine."""
        if self.place != _place():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False

    def __str__(self) -> str:
        """Return `process 12 on host`."""
        return f"process {self.pid} on {self.place.partition('/')[0]}"


class Leases:
    """The leases of one run, as a context: they are renewed inside of it, and given up at its end.

    Args:
        folder: where the leases of all runs on a store lie.
        renew_s: seconds between two renewals.
        valid_s: seconds after its last renewal for which a lease of another run is respected.
    """

    def __init__(self, folder: Path, *, renew_s: float = RENEW_S, valid_s: float = VALID_S) -> None:
        self.folder, self.renew_s, self.valid_s = folder, renew_s, valid_s
        self.me = Holder(secrets.token_hex(8), _place(), os.getpid())
        self._held: set[ShardKey] = set()
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> Self:
        """Begin to renew, and remove what dead runs have left.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            self._touch()
            self._sweep()
        except OSError as error:
            raise StoreError(f"cannot write below {self.folder}: {error}") from error
        self._renewing.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give everything up; the folder goes with the last run."""
        self._ended.set()
        self._renewing.join()
        for key in list(self._held):
            self.release(key)
        with suppress(OSError):  # what stays expires
            self._run_file(self.me.run).unlink()
            self._said_file(self.me.run).unlink(missing_ok=True)
            self.folder.rmdir()

    def take(self, key: ShardKey) -> bool:
        """Take a shard unless another live run holds it; return whether this run holds it now.

        Raises:
            StoreError: the folder cannot be written.
        """
        if key in self._held:
            return True
        path = self._lease_file(key)
        try:
            if not self._create(path) and not (self._give_way(path) and self._create(path)):
                return False
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}") from error
        self._held.add(key)
        return True

    def release(self, key: ShardKey) -> None:
        """Give a shard up, if this run still holds it."""
        self._held.discard(key)
        path = self._lease_file(key)
        with suppress(OSError):  # what stays expires
            if _holder_of(path) == self.me:
                path.unlink()

    def say(self, state: Mapping[str, Any]) -> None:
        """Let others read how far this run is, as plain JSON; it goes with the run."""
        path, scratch = self._said_file(self.me.run), self.folder / f"{self.me.run}.now.old"
        with suppress(OSError):  # nothing depends on it
            scratch.write_text(json.dumps(state))
            os.replace(scratch, path)

    def said_by(self, run: str) -> dict[str, Any] | None:
        """Return how far another run said it is, None if it has not said so yet."""
        try:
            found = json.loads(self._said_file(run).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def of_others(self) -> dict[ShardKey, Holder | None]:
        """Return the shards that other live runs hold, and who holds each; None where the file does not say yet.

        Raises:
            StoreError: the folder cannot be read.
        """
        found: dict[ShardKey, Holder | None] = {}
        if not self.folder.is_dir():
            return found
        try:
            now_s = file_system_time_s(self.folder)
            for path in self._lease_files():
                holder = _holder_of(path)
                if holder != self.me and not self._has_expired(path, holder, now_s):
                    cell_id, shard_id = path.stem.split(".")
                    found[ShardKey(cell_id, shard_id)] = holder
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error}") from error
        return found

    def _lease_file(self, key: ShardKey) -> Path:
        return self.folder / f"{key.cell_id}.{key.shard_id}.json"

    def _lease_files(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if path.suffix == ".json" and path.stem.count(".") == 1)

    def _run_file(self, run: str) -> Path:
        return self.folder / f"{run}.run"

    def _said_file(self, run: str) -> Path:
        return self.folder / f"{run}.now"

    def _touch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._run_file(self.me.run)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
        os.utime(path)  # without times given, NFS takes the server's clock

    def _renew(self) -> None:
        while not self._ended.wait(self.renew_s):
            with suppress(OSError):  # a full disk, say: the commit that fails by it will tell
                self._touch()

    def _create(self, path: Path) -> bool:
        """Create a lease of this run; return False where there is one."""
        for _ in range(2):
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            except FileNotFoundError:  # another run was the last one, and took the folder with it
                self._touch()
                continue
            with os.fdopen(descriptor, "w") as stream:
                json.dump({**self.me._asdict(), "valid_s": self.valid_s}, stream)
            return True
        return False

    def _give_way(self, path: Path) -> bool:
        """Remove a lease that has expired; return whether there is none now."""
        moved = path.with_name(f"{secrets.token_hex(8)}.old")
        try:
            judged = path.stat()
            if not self._has_expired(path, _holder_of(path), file_system_time_s(self.folder)):
                return False
            os.rename(path, moved)
            found = moved.stat()
            if (found.st_ino, found.st_mtime_ns) != (judged.st_ino, judged.st_mtime_ns):
                with suppress(OSError):  # another run has taken the shard over since the look: its lease goes back
                    os.link(moved, path)
        except FileNotFoundError:
            return True
        moved.unlink()
        return not path.exists()

    def _has_expired(self, path: Path, holder: Holder | None, now_s: float) -> bool:
        if holder is not None and holder.is_dead:
            return True
        # A file that does not name its run, because it is being written at this moment, is judged by its own age.
        renewed_s = max(_stamp_s(path), _stamp_s(self._run_file(holder.run)) if holder is not None else 0.0)
        return now_s - renewed_s > self.valid_s

    def _sweep(self) -> None:
        for path in self._lease_files():
            self._give_way(path)
        now_s = file_system_time_s(self.folder)
        for path in self.folder.iterdir():
            if path.suffix in (".run", ".now", ".old") and now_s - _stamp_s(path) > self.valid_s:
                path.unlink(missing_ok=True)


def _holder_of(path: Path) -> Holder | None:
    """Return the run that a lease names; None where there is no such file, or nothing legible in it."""
    try:
        found = json.loads(path.read_bytes())
        return Holder(str(found["run"]), str(found["place"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stamp_s(path: Path) -> float:
    """Return when a file was last written, by the file system's clock; 0 where it is absent."""
    try:
        with path.open("rb") as stream:  # opening makes NFS ask the server, `stat` may answer from a cache
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return 0.0


def _place() -> str:
    """Return what two processes have in common that see each other's numbers: host, start of the host, name space."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)
