"""Pass@k by counting subsets."""

from __future__ import annotations

from itertools import combinations

import pytest

from designspace.errors import DeclarationError
from designspace.statistics import pass_at_k


@pytest.mark.parametrize(("n", "correct", "k"), [(1, 0, 1), (5, 2, 2), (8, 1, 8), (6, 6, 3), (7, 3, 5)])
def test_share_of_subsets_with_a_correct_one(n, correct, k):
    """All subsets of k generations."""
    subsets = list(combinations(range(n), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(min(s) < correct for s in subsets) / len(subsets))


@pytest.mark.parametrize(("n", "correct", "k"), [(4, 2, 5), (4, 5, 1), (4, 2, 0), (4, -1, 1)])
def test_impossible_counts_are_refused(n, correct, k):
    """More than there are."""
    with pytest.raises(DeclarationError, match="got k="):
        pass_at_k(n, correct, k)
