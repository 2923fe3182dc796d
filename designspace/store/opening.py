"""Begin a store, and tell one from any other folder."""

from __future__ import annotations

from designspace.errors import StoreError
from designspace.store.commit import atomic_bytes, document_bytes
from designspace.store.fsck import read_document
from designspace.store.layout import FORMAT_VERSION, Layout
from designspace.store.shard_file import Damaged


def begin_store(layout: Layout, create: bool) -> None:
    """Make an empty store in a folder that is absent or empty.

    Raises:
        StoreError: the folder holds something else, or `create` is false.
    """
    root = layout.root
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file, not a results store")
    # `tmp` alone is a store that another process is beginning at this moment.
    others = sorted(p.name for p in root.iterdir() if p != layout.scratch and p.name[0] != ".") if root.is_dir() else []
    if others and not layout.format_file.exists():
        raise StoreError(f"{root} is not a results store: it holds {others[0]!r} but no {layout.format_file.name}")
    if not create:
        raise StoreError(f"no results store at {root}")
    # Every process writes the same bytes, so a rename serves better than O_EXCL, which a crash could leave empty.
    atomic_bytes(
        layout.format_file, document_bytes({"format": FORMAT_VERSION, "what": "designspace results"}), layout.scratch
    )


def check_format(layout: Layout) -> None:
    """Check that this version can read the store.

    Raises:
        StoreError: it cannot.
    """
    try:
        version = read_document(layout.format_file).get("format")
    except Damaged as error:
        raise StoreError(f"{layout.format_file} is damaged: {error}") from error
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"{layout.format_file} does not name a store format, got {version!r}")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{layout.root} has store format {version}, this version reads up to {FORMAT_VERSION}: upgrade designspace"
        )
