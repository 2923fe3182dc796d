"""Selectors: from scores to a set of kept tokens."""
