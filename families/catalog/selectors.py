"""Systems whose main idea is a selector: choosing a set of tokens rather than the highest scores."""

from __future__ import annotations

from families.cadence.every_k import EveryK
from families.catalog.system import PAPER, TRIGGER, system
from families.scoring.h2o import H2O
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.dpp import DPP
from families.scoring.selectors.facility_location import FacilityLocation
from families.scoring.selectors.k_center import KCenter
from families.scoring.selectors.mmr import MMR
from families.scoring.selectors.poisson_hajek import PoissonHajek
from families.scoring.triattention import TriAttention

_WINDOW = "half of the budget is H2O's window, so the selector chooses the other half (scoring recent)"

SYSTEMS = (
    system(
        "alpha",
        "TriAttention with the V-space diversity selector, weight 0.5",
        PAPER,
        TriAttention(selector=Diversity(weight=0.5)),
        EveryK(),
        choices=(
            "scores are z-normalised first, which the paper does not state (scoring normalise)",
            "protected tokens do not count as chosen (selector seed_with_protected)",
            TRIGGER,
        ),
    ),
    system(
        "mmr",
        "H2O scores, with selection by maximal marginal relevance",
        "carbonell1998mmr",
        H2O(selector=MMR()),
        EveryK(),
        choices=(_WINDOW,),
    ),
    system(
        "facility-location",
        "H2O scores, with a selection that covers all keys",
        "nemhauser1978",
        H2O(selector=FacilityLocation()),
        EveryK(),
        choices=(_WINDOW,),
    ),
    system(
        "dpp",
        "H2O scores, with greedy selection by a determinantal point process",
        "chen2018fastdpp",
        H2O(selector=DPP()),
        EveryK(),
        choices=(_WINDOW,),
    ),
    system(
        "poisson-hajek",
        "H2O scores, the tail drawn with known probabilities and weighed by them",
        "poissonhajek2026",
        H2O(selector=PoissonHajek()),
        EveryK(),
        choices=(
            _WINDOW,
            "the paper could not be had: what is certain and how probable the rest is follow a summary (selector certain, mix)",
            "the number drawn is fixed, as budgets are exact; Poisson sampling has a random one",
            "the error to expect is that of each event's newest query, as if slots were drawn independently (sampling_error)",
            "whoever scores next sees attention with the weights, so a token that stands for many scores as many",
        ),
    ),
    system(
        "k-center",
        "H2O scores, with the farthest keys selected first",
        "gonzalez1985",
        H2O(selector=KCenter()),
        EveryK(),
        choices=(_WINDOW, "the scores have no say where tokens are protected (selector weigh)"),
    ),
    system(
        "k-center-weighted",
        "H2O scores, with the keys selected first that are far and relevant",
        "gonzalez1985",
        H2O(selector=KCenter(weigh=True)),
        EveryK(),
        choices=(
            _WINDOW,
            "distances are multiplied by the relevance, which Gonzalez' bound does not allow (selector weigh)",
        ),
    ),
)
