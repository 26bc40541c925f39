"""The routing policies: each draws workers from the view and scores those that may serve the ask.

The lowest score wins; at equal scores the earlier drawn, and draws come in random order. Sources: power of
two choices (Mitzenmacher 2001), consistent hashing with bounded loads (Mirrokni et al. 2018), holders first
unless overloaded (what Ray Serve and LoRAX do for adapters), batches of like ranks (LoRAServe, arXiv
2511.22880), prefix caches first unless overloaded (Preble, arXiv 2407.00023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import draws, scores
from .draws import Draw
from .scores import Choose, lowest


@dataclass(frozen=True, slots=True)
class Policy:
    """How workers are drawn, and who of them is the best. `more` are looked at too unless the best of the
    first is at least as good as whom asks usually go to."""

    draw: Draw
    choose: Choose
    more: Draw | None = None


POLICIES: Mapping[str, Policy] = {
    "affinity_and_load": Policy(draws.draw_holders, scores.soonest, draws.draw_newcomers),
    "random": Policy(draws.draw_few, lowest(scores.score_equal)),
    "cheapest": Policy(draws.draw_scanned, lowest(scores.score_price)),
    "round_robin": Policy(draws.draw_next, lowest(scores.score_equal)),
    "least_outstanding": Policy(draws.draw_scanned, lowest(scores.score_outstanding)),
    "power_of_two": Policy(draws.draw_two, lowest(scores.score_load)),
    "consistent_hash": Policy(draws.draw_homes, lowest(scores.score_room)),
    "rank_aware": Policy(draws.draw_holders, lowest(scores.score_rank), draws.draw_newcomers),
    "slo_and_price": Policy(draws.draw_holders, lowest(scores.score_slo), draws.draw_newcomers),
    "prefix_affinity": Policy(draws.draw_caching, lowest(scores.score_cached)),
}
DEFAULT_POLICY = "affinity_and_load"
