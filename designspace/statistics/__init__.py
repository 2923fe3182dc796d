"""Intervals and, later, paired tests. The unit of inference is the problem."""

from designspace.statistics.intervals import Interval, accuracy_interval, cluster_bootstrap, proportion_interval

__all__ = ["Interval", "accuracy_interval", "cluster_bootstrap", "proportion_interval"]
