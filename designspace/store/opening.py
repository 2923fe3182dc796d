"""Begin a store, and tell one from any other folder."""

from __future__ import annotations

from designspace.errors import NoResults, StoreError
from designspace.store.commit import atomic_bytes
from designspace.store.documents import read_all, read_document, read_study, sealed_document
from designspace.store.layout import FORMAT_VERSION, Layout
from designspace.store.listing import shard_files
from designspace.store.stored_file import Damaged, Unreadable


def begin_store(layout: Layout, create: bool) -> None:
    """Make an empty store in a folder that is absent or empty.

    Raises:
        NoResults: the folder holds something else, or `create` is false.
    """
    root = layout.root
    if root.exists() and not root.is_dir():
        raise NoResults(f"{root} is a file, not a results store")
    # `tmp` alone is a store that another process is beginning at this moment.
    others = sorted(p.name for p in root.iterdir() if p != layout.scratch and p.name[0] != ".") if root.is_dir() else []
    if others and not layout.format_file.exists():
        raise NoResults(f"{root} is not a results store: it holds {others[0]!r} but no {layout.format_file.name}")
    if not create:
        raise NoResults(f"no results store at {root}")
    write_format(layout)


def write_format(layout: Layout) -> None:
    """Write the file that makes a folder a store.

    Every process writes the same bytes, so a rename serves better than O_EXCL, which a crash could leave empty.
    """
    content = sealed_document({"format": FORMAT_VERSION, "what": "designspace results"})
    atomic_bytes(layout.format_file, content, layout.scratch)


def format_damage(layout: Layout) -> str | None:
    """Return why the file that makes a folder a store is damaged; None where it is sound.

    A store is known by its other files too, and each of those says its own version.

    Raises:
        StoreError: the store is of a newer format, or nothing but this file tells that the folder is a store.
    """
    try:
        document, is_sealed = read_document(layout.format_file)
    except Unreadable as error:
        raise StoreError(f"{layout.format_file}: {error}") from error
    except Damaged as error:
        return _tolerated(layout, f"is damaged: {error}")
    version = document.get("format")
    if not isinstance(version, int) or version < 1:
        return _tolerated(layout, f"does not name a store format, got {version!r}")
    if version > FORMAT_VERSION:
        newer = f"has store format {version}, this version reads up to {FORMAT_VERSION}: upgrade designspace"
        if is_sealed:
            raise StoreError(f"{layout.format_file} {newer}")
        return _tolerated(layout, newer)  # whatever is newer than this has a checksum
    return None


def _tolerated(layout: Layout, reason: str) -> str:
    if not (read_all(layout.studies, read_study)[0] or shard_files(layout.all_samples)[0]):
        raise StoreError(f"{layout.format_file} {reason}")
    return reason
