"""Counting live tensors, and carrying small measurements to full size."""

from __future__ import annotations

import pytest
import torch

from designspace.memory.extrapolation import extrapolate_linear, extrapolate_quadratic
from designspace.memory.live_bytes import LiveBytes, peak_bytes
from designspace.models.free_memory import bytes_text, free_bytes


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tensor_counts_until_it_is_gone(device: str) -> None:
    """Views and writing in place are free; what is dropped no longer counts, but the peak stays."""
    before = torch.zeros(1000, device=device)
    with LiveBytes() as live:
        first = torch.zeros(100, device=device)
        view = first.view(10, 10)
        view += 1
        before.add_(1)
        assert (live.now, live.peak) == (400, 400)
        second = torch.cat([first, first])
        assert live.now == 1200
        del first
        assert live.now == 1200  # the view holds it
        del view
        assert (live.now, live.peak) == (800, 1200)
        del second
        assert (live.now, live.peak) == (0, 1200)


def test_what_was_there_before_is_free() -> None:
    """An operator that returns its own argument, or a view of it, makes nothing."""
    outside = torch.ones(64)
    assert peak_bytes(lambda: outside.view(8, 8)[2:].T) == 0
    assert peak_bytes(lambda: outside.clone()) == 256


def test_temporaries_of_an_expression_are_seen() -> None:
    """A product lives on while the sum is made of it."""
    x = torch.ones(1000)
    assert peak_bytes(lambda: x * x + x) == 8000
    assert peak_bytes(lambda: (x * x).sum()) == 4004


def test_lines_and_parabolas_are_continued_exactly() -> None:
    """Within the measured sizes nothing is extrapolated."""
    assert extrapolate_linear(lambda n: 7 + 3 * n, 100, (1, 2)) == 307
    assert extrapolate_linear(lambda n: n**3, 2, (1, 2)) == 8
    assert extrapolate_quadratic(lambda n: 5 + 2 * n + 3 * n**2, 1000, (128, 256, 384)) == 5 + 2000 + 3_000_000
    assert extrapolate_quadratic(lambda n: n**3, 384, (128, 256, 384)) == 384**3


def test_what_hardly_bends_is_a_line() -> None:
    """Rounding to blocks is no curvature, and nothing shrinks when sizes grow."""
    blocks = {128: 1000, 256: 2000, 384: 3010}
    assert extrapolate_quadratic(blocks.__getitem__, 512, (128, 256, 384)) == 4020
    saturating = {128: 1000, 256: 1900, 384: 2000}
    assert extrapolate_quadratic(saturating.__getitem__, 640, (128, 256, 384)) == 2200


def test_bytes_in_words_and_of_this_machine() -> None:
    """Units of 1024; some memory is free."""
    assert (bytes_text(3 * 2**19), bytes_text(3 * 2**29)) == ("1.5 MiB", "1.50 GiB")
    assert 2**20 < free_bytes() < 2**50
