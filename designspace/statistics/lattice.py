"""Both resampling tests without resampling, for thousands of data sets at once.

Per-problem differences of accuracies are multiples of 1 / n_replicates. The sum of n_problems such numbers with random
signs, or drawn with replacement, has a distribution on few points, which the discrete Fourier transform of its
characteristic function gives to rounding error. These are the limits of `sign_flip` and `cluster_bootstrap_test` at
infinitely many draws, and what power simulations use.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from designspace.statistics.paired import FloatArray, IntArray

_VALUES_PER_BLOCK = 2_000_000  # of a characteristic function, 32 MB as complex numbers
_REACH = 12.0  # standard deviations of a resampled sum beyond which its chance is below rounding error


def sign_flip_lattice(steps: IntArray) -> FloatArray:
    """Return the exact two-sided sign-flip p value of each data set.

    steps: [n_sets, n_problems], differences of per-problem means in units of 1 / n_replicates.
    """
    return _in_blocks(_sign_flip_block, steps, _length(2 * int(np.abs(steps).sum(axis=1).max(initial=0)) + 1))


def bootstrap_lattice(steps: IntArray) -> FloatArray:
    """Return min(1, 2 min(P(sum <= 0), P(sum >= 0))) of each data set's resampled sum.

    steps: as for `sign_flip_lattice`.
    """
    n, largest = steps.shape[1], int(np.abs(steps).max(initial=0))
    spread = float(steps.std(axis=1).max(initial=0)) * np.sqrt(n)
    reach = int(np.abs(steps.sum(axis=1)).max(initial=0) + _REACH * spread) + 20 * largest
    return _in_blocks(_bootstrap_block, steps, _length(2 * min(n * largest, reach) + 1))


def _sign_flip_block(steps: IntArray, length: int) -> FloatArray:
    """Return [n_sets] p values from a transform of `length` points."""
    sizes = np.abs(steps)
    phase = 2 * np.pi * np.arange(length // 2 + 1) / length
    characteristic = np.ones((len(steps), len(phase)))
    for size in range(1, int(sizes.max(initial=0)) + 1):
        characteristic *= np.cos(size * phase) ** (sizes == size).sum(axis=1)[:, None]
    chance = np.fft.irfft(characteristic, length, axis=1)[:, : length // 2 + 1]  # of sums 0, 1, 2, ...
    at_least = np.cumsum(chance[:, ::-1], axis=1)[:, ::-1]
    observed = np.abs(steps.sum(axis=1))
    tails = 2 * np.take_along_axis(at_least, observed[:, None], axis=1)[:, 0]
    return np.where(observed == 0, 1.0, np.clip(tails, 0.0, 1.0))


def _bootstrap_block(steps: IntArray, length: int) -> FloatArray:
    """Return [n_sets] p values from a transform of `length` points."""
    largest = int(np.abs(steps).max(initial=0))
    values = np.arange(-largest, largest + 1)
    shares = np.stack([(steps == value).mean(axis=1) for value in values], axis=1)  # [n_sets, values]
    phase = 2 * np.pi * np.arange(length // 2 + 1) / length
    one = shares @ np.exp(-1j * values[:, None] * phase)
    chance = np.fft.irfft(one ** steps.shape[1], length, axis=1)
    half = length // 2
    positive, negative = chance[:, 1 : half + 1].sum(axis=1), chance[:, half + 1 :].sum(axis=1)
    return np.clip(2 * (chance[:, 0] + np.minimum(positive, negative)), 0.0, 1.0)


def _in_blocks(p_values: Callable[[IntArray, int], FloatArray], steps: IntArray, length: int) -> NDArray[np.float64]:
    """Return [n_sets] p values, bounding the memory of the transforms."""
    rows = max(1, _VALUES_PER_BLOCK // length)
    found = [p_values(steps[start : start + rows], length) for start in range(0, len(steps), rows)]
    return np.concatenate(found) if found else np.empty(0)


def _length(at_least: int) -> int:
    """Return a length that transforms fast, odd so that the points lie evenly about zero."""
    from scipy.fft import next_fast_len

    length = next_fast_len(max(3, at_least), real=True)
    while length % 2 == 0:
        length = next_fast_len(length + 1, real=True)
    return int(length)
