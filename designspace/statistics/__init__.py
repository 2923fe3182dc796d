"""Intervals, paired tests, corrections, margins and power. The unit of inference is the problem."""

from designspace.statistics.attainable import can_reject, problems_needed, resamples_needed, smallest_p_value
from designspace.statistics.axis_effects import AxisEffect, FactorialEffects, family_size, interactions, main_effects
from designspace.statistics.bootstrap import cluster_bootstrap_test
from designspace.statistics.corrections import Corrected, bonferroni, bonferroni_threshold, holm
from designspace.statistics.difference_interval import difference_interval
from designspace.statistics.equivalence import MarginResult, equivalence, non_inferiority
from designspace.statistics.factorial import FactorialScores
from designspace.statistics.intervals import Interval, accuracy_interval, cluster_bootstrap, proportion_interval
from designspace.statistics.mcnemar import mcnemar_exact
from designspace.statistics.mcnemar_power import mcnemar_minimum_effect, mcnemar_power
from designspace.statistics.outcomes import BetaAccuracies, ListedAccuracies, fit_beta
from designspace.statistics.paired import PairedScores, UnpairedScores, pair
from designspace.statistics.pass_at_k import pass_at_k
from designspace.statistics.permutation import sign_flip
from designspace.statistics.power import (
    DetectableEffect,
    PowerEstimate,
    StudyDesign,
    estimate_power,
    minimum_detectable_effect,
)
from designspace.statistics.registered_tests import REGISTERED_TESTS, default_test, paired_test
from designspace.statistics.result import PairedResult
from designspace.statistics.t_test import t_test

__all__ = [
    "REGISTERED_TESTS",
    "AxisEffect",
    "BetaAccuracies",
    "Corrected",
    "DetectableEffect",
    "FactorialEffects",
    "FactorialScores",
    "Interval",
    "ListedAccuracies",
    "MarginResult",
    "PairedResult",
    "PairedScores",
    "PowerEstimate",
    "StudyDesign",
    "UnpairedScores",
    "accuracy_interval",
    "bonferroni",
    "bonferroni_threshold",
    "can_reject",
    "cluster_bootstrap",
    "cluster_bootstrap_test",
    "default_test",
    "difference_interval",
    "equivalence",
    "estimate_power",
    "family_size",
    "fit_beta",
    "holm",
    "interactions",
    "main_effects",
    "mcnemar_exact",
    "mcnemar_minimum_effect",
    "mcnemar_power",
    "minimum_detectable_effect",
    "non_inferiority",
    "pair",
    "paired_test",
    "pass_at_k",
    "problems_needed",
    "proportion_interval",
    "resamples_needed",
    "sign_flip",
    "smallest_p_value",
    "t_test",
]
