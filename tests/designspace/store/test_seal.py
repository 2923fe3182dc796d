"""A checksum inside the file it covers: every byte counts, and any program can check it."""

from __future__ import annotations

import hashlib
import re

import pytest

from designspace.store.seal import MARK, N_DIGITS, OPEN_SEAL, seal_of, sealed

BODY = b'{"a":1,' + OPEN_SEAL + b"}"


def test_a_sealed_file_states_the_hash_of_itself_with_its_digits_as_zeros():
    """As the docstring promises to other programs."""
    found = re.search(rb'"designspace\.sha256":"([0-9a-f]{64})"', sealed(BODY))
    assert found is not None
    assert found[1].decode() == hashlib.sha256(BODY).hexdigest() == seal_of(sealed(BODY)).digest


def test_sealing_changes_nothing_but_the_digits():
    """Parquet offsets stay what they were."""
    content = sealed(BODY)
    start = BODY.index(MARK) + len(MARK)
    assert (content[:start], content[start + N_DIGITS :]) == (BODY[:start], BODY[start + N_DIGITS :])


@pytest.mark.parametrize("place", range(len(BODY)))
def test_every_byte_counts(place):
    """A changed byte breaks the seal, or, in the mark, takes it away: it never holds."""
    content = bytearray(sealed(BODY))
    content[place] ^= 0x10
    seal = seal_of(bytes(content))
    assert seal.is_broken or seal.stated is None


def test_bytes_without_a_mark_have_a_digest_and_no_seal():
    """A file from before there were checksums is no damaged one."""
    assert (seal_of(b"abc").digest, seal_of(b"abc").is_broken) == (hashlib.sha256(b"abc").hexdigest(), False)


def test_a_text_that_speaks_of_the_mark_does_no_harm():
    """The last mark counts, as rows come before the metadata of their file; digits that end too early never match."""
    assert not seal_of(sealed(MARK + b"1" * N_DIGITS + BODY)).is_broken
    assert seal_of(MARK + b"12").is_broken
