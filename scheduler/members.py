"""A worker as routing sees it: the facts of its newest advert laid out flat, beside this peer's own record of
it."""

from __future__ import annotations

from ..protocol.content.manifests import Split
from ..protocol.gossip.adverts import Rates, WorkerAd
from ..protocol.ids import Address, Cid, PeerId
from .costs import token_cost_us
from .records import record
from .standing import PPM, PRIOR_SUCCESS_PPM, Standing

LISTED = -1
"""In `Member.held`: its advert names the adapter."""
CHANGING = -1
"""In `Member.cost_us`: ask `cost_at`."""
LAG_BORNE_US = 1_500_000
"""First tokens may be so much later than expected before a worker's word is doubted."""
LAG_TOKENS = 64
"""The lateness beyond that is spread over so many tokens of an answer."""


@record(frozen=True, slots=True)
class WorkerView:
    """The facts of one worker's advert that routing needs.

    `base` is the reference, `artefact` what is really loaded.
    """

    peer: PeerId
    lane: Address
    base: Cid
    artefact: Cid
    rates: Rates
    split: Split
    max_context: int
    max_batch: int
    max_rank: int
    queue_depth: int
    running: int
    free_pages: int
    resident: tuple[Cid, ...]
    resident_count: int
    addresses: tuple[str, ...]
    key_expires_ms: int
    seq: int
    issued_ms: int
    seen_ms: int
    slots: int = 0
    ranks: tuple[int, ...] = ()


def worker_view(peer: PeerId, ad: WorkerAd, now_ms: int) -> WorkerView:
    """What `ad`, already checked and sealed by `peer`, says of it; seen at `now_ms`."""
    binding = ad.binding.binding
    return WorkerView(
        peer=peer,
        lane=binding.session_key,
        base=ad.base,
        artefact=ad.artefact,
        rates=ad.rates,
        split=ad.base_split,
        max_context=ad.max_context,
        max_batch=max(1, ad.max_batch),
        max_rank=ad.max_rank,
        queue_depth=ad.queue_depth,
        running=ad.running,
        free_pages=ad.free_pages,
        resident=ad.resident,
        resident_count=ad.resident_count,
        addresses=ad.addresses,
        key_expires_ms=binding.not_after * 1000,
        seq=ad.seq,
        issued_ms=ad.issued_ms,
        seen_ms=now_ms,
        slots=ad.slots,
        ranks=ad.resident_ranks,
    )


class Member:
    """One worker in the view.

    `room` is how many asks it may have before it counts as full, `is_roomy` whether it is in the pool of
    those that have fewer; `held` are the adapters it is believed to hold, `LISTED` or from when on (they were
    sent there by an ask), `warm` how many of the latter; adapters fetched for our asks have come at
    `line_free_ms`; `top_rank` is the largest rank it lists. `dearest` bounds its price a token (per 1,000);
    `cost_us` is what a token costs an ask there by `costs`, and below 0 where that changes with time.
    """

    __slots__ = (
        "ad",
        "artefact",
        "cost_us",
        "dearest",
        "fee",
        "held",
        "is_roomy",
        "key_expires_ms",
        "line_free_ms",
        "max_batch",
        "max_context",
        "max_rank",
        "peer",
        "rates",
        "room",
        "standing",
        "top_rank",
        "warm",
    )

    def __init__(self, ad: WorkerView, standing: Standing, backlog: int) -> None:
        self.peer = ad.peer
        self.standing = standing
        self.held: dict[Cid, int] = {}
        self.warm = 0
        self.is_roomy = False
        self.line_free_ms = 0
        self.read(ad, backlog)
        self.reprice()

    def read(self, ad: WorkerView, backlog: int) -> None:
        """Take the facts of a newer advert; what it holds is the view's affair."""
        self.ad = ad
        self.artefact = ad.artefact
        self.rates = ad.rates
        self.dearest = max(ad.rates.prompt_per_1000, ad.rates.output_per_1000)
        self.fee = ad.rates.request_fee
        self.max_context = ad.max_context
        self.max_batch = ad.max_batch
        self.max_rank = ad.max_rank
        self.key_expires_ms = ad.key_expires_ms
        self.room = backlog * ad.max_batch
        self.top_rank = max(ad.ranks, default=0)

    def reprice(self) -> Standing:
        """What is known of its load, its speed or its record, which is returned, has changed."""
        standing = self.standing
        worth_ppm = standing.worth_ppm
        if standing.foreign or worth_ppm < PRIOR_SUCCESS_PPM or standing.lag_us > LAG_BORNE_US:
            self.cost_us = CHANGING
        else:
            cost_us = token_cost_us(standing.token_us, standing.outstanding, self.max_batch)
            self.cost_us = cost_us * PPM // worth_ppm
        return standing

    def cost_at(self, now_ms: int) -> int:
        """What a token costs an ask there, where it changes with time: others' asks and bad records fade. A
        worker whose first tokens come much later than it promised pays for that."""
        standing = self.standing
        cost_us = token_cost_us(standing.token_us, standing.load_at(now_ms), self.max_batch)
        if standing.lag_us > LAG_BORNE_US:
            cost_us += standing.lag_us // LAG_TOKENS
        return cost_us * PPM // standing.worth_at(now_ms)
