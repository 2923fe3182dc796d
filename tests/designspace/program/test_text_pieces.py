"""The pieces of a text together are the text, whatever its tokens are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.program.text_pieces import TextPieces


def bytes_text(ids: tuple[int, ...]) -> str:
    """Decode as a tokenizer of bytes does: half a character is a replacement mark."""
    return bytes(ids).decode("utf-8", errors="replace")


def words_text(ids: tuple[int, ...]) -> str:
    """Decode as a tokenizer does that writes no space before a text's first word."""
    return " ".join(f"w{i}" for i in ids)


@given(st.text(max_size=8))
@settings(max_examples=30)
def test_characters_come_whole(text: str) -> None:
    """A character of several bytes comes with its last one, and nothing comes twice."""
    pieces = TextPieces(bytes_text)
    shown = [pieces.add(byte) for byte in text.encode()]

    assert "".join([*shown, pieces.rest()]) == text
    if "\ufffd" not in text:
        assert pieces.rest() == ""
        assert all(piece == "" or piece in text for piece in shown)


@given(st.lists(st.integers(0, 9), max_size=8))
@settings(max_examples=30)
def test_spaces_between_words_are_kept(ids: list[int]) -> None:
    """Although a word alone has none."""
    pieces = TextPieces(words_text)

    assert "".join([*(pieces.add(i) for i in ids), pieces.rest()]) == words_text(tuple(ids))


def test_a_broken_end_is_shown_as_the_text_has_it() -> None:
    """At the end there is no waiting for the rest of a character."""
    pieces = TextPieces(bytes_text)

    assert [pieces.add(byte) for byte in "aé".encode()[:2]] == ["a", ""]
    assert pieces.rest() == "\ufffd"
