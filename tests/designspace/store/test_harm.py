"""Whatever happens to the bytes of one file, nothing is read that was not committed, and the same command mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from designspace.errors import StoreError
from designspace.store.seal import MARK, Seal
from designspace.store.stored_file import Damaged
from tests.designspace.store.harm import Victim, drop_checksums, full_store


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A store with every kind of file; every test leaves it whole."""
    return Victim(full_store(tmp_path_factory.mktemp("harm") / "results").root)


def harm_all(victim: Victim, harms: Iterator[tuple[Path, bytes]], in_full_every: int) -> Counter[str]:
    """Harm one file after the other and count what came of it; every so many the whole store is compared."""
    return Counter(
        victim.harm(path, harmed, in_full=index % in_full_every == 0).outcome
        for index, (path, harmed) in enumerate(harms)
    )


def test_every_kind_of_file_is_there(victim: Victim) -> None:
    """So that no kind is left out of the tests below."""
    tops = {path.relative_to(victim.layout.root).parts[0] for path in victim.intact}
    assert {"designspace.json", "studies", "cells", "samples", "grades", "failures"} == tops


def test_no_flipped_byte_passes(victim: Victim) -> None:
    """200 of them; there is no byte that nothing depends on, so that each is noticed."""
    assert {"noticed": 200} == harm_all(victim, victim.flips(200, seed=1), in_full_every=20)


@pytest.mark.slow
def test_no_flipped_byte_of_twenty_thousand_passes(victim: Victim) -> None:
    """Anywhere: pages, their headers, dictionaries, statistics, footers, magic, documents, and the checksums themselves."""
    assert {"noticed": 20_000} == harm_all(victim, victim.flips(20_000, seed=2), in_full_every=100)


def test_every_byte_of_every_small_file_matters(victim: Victim) -> None:
    """Documents and the file that makes the folder a store."""
    small = [(path, intact) for path, intact in victim.intact.items() if path.suffix == ".json"]
    harms = [
        (path, intact[:place] + bytes([intact[place] ^ 0x01]) + intact[place + 1 :])
        for path, intact in small
        for place in range(len(intact))
    ]
    assert {"noticed": len(harms)} == harm_all(victim, iter(harms), in_full_every=100)


def test_a_flip_in_the_checksum_itself_is_noticed(victim: Victim) -> None:
    """A file that lost its mark does not pass for one from before there were checksums."""
    harms = []
    for path, intact in victim.intact.items():
        start = intact.rfind(MARK)
        if start >= 0:
            length = len(MARK) + 65
            places = range(start, start + length, 1 if path.suffix == ".json" else 7)
            harms += [(path, intact[:n] + bytes([intact[n] ^ 0x20]) + intact[n + 1 :]) for n in places]
    assert {"noticed": len(harms)} == harm_all(victim, iter(harms), in_full_every=50)


def test_no_cut_passes(victim: Victim) -> None:
    """A file that ends too early is noticed at every length: documents, and in steps one file of samples and of grades."""
    shards = [next(path for path in victim.intact if top in path.parts) for top in ("samples", "grades")]
    harms = [
        (path, intact[:length])
        for path, intact in victim.intact.items()
        for length in range(0, len(intact), 3 if path.suffix == ".json" else 67)
        if path.suffix == ".json" or path in shards
    ]
    assert {"noticed": len(harms)} == harm_all(victim, iter(harms), in_full_every=100)


@pytest.mark.parametrize("block", [1, 64, 512, 4096])
def test_no_block_of_zeros_passes(victim: Victim, block: int) -> None:
    """What a disk gives back for a sector that it lost; a block that is zeros already is the same file."""
    harms = []
    for path, intact in victim.intact.items():
        for start in range(0, len(intact), max(block, len(intact) // 10)):
            harmed = intact[:start] + bytes(len(intact[start : start + block])) + intact[start + block :]
            harms.append((path, harmed))
    n_same = sum(harmed == victim.intact[path] for path, harmed in harms)
    assert Counter(noticed=len(harms) - n_same, harmless=n_same) == harm_all(victim, iter(harms), in_full_every=50)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_without_the_checksum_flips_would_pass(victim: Victim, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """The tests above can fail: with verification switched off, the same harm gives other values, and not a word."""
    monkeypatch.setattr(Seal, "is_broken", False)
    for path, harmed in victim.flips(20_000, seed=3):
        if path.suffix == suffix and "studies" not in path.parts:
            try:
                victim.harm(path, harmed)
            except AssertionError as error:
                if "silently another value" in str(error):
                    return
            except StoreError:
                continue
    pytest.fail("every flip was noticed without the checksum")


def test_flips_in_files_without_a_checksum_end_in_no_traceback(tmp_path: Path) -> None:
    """Parquet checks pages and not what describes them, so that a few pass; whatever it raises is damage, in one line."""
    root = full_store(tmp_path / "results").root
    drop_checksums(root)
    older = Victim(root)
    n_silent, reasons = 0, []
    for path, harmed in older.flips(300, seed=4):
        path.write_bytes(harmed)
        try:
            n_silent += older.read_file(path) != older.read[path]
        except Damaged as error:
            reasons.append(str(error))
        path.write_bytes(older.intact[path])
    assert n_silent < 10
    assert len(reasons) > 100
    assert not any("\n" in reason for reason in reasons)
