"""What a watchtower demands: leaves of data that it cannot have, and leaves that nobody can show.

Rules of this file: data that cannot be had is demanded once a part of the window has passed, one leaf first,
and if that is shown, as many as are set; a leaf of a tree that sums to something else than the chain compares
at once. A demand whose time is over takes its commitment back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...contracts.calling.records import PostedCommitment
from ...contracts.client.chain import ChainClient
from ...contracts.client.demanding import Demand, Tree, hidden_leaf
from ...protocol.errors import ChainError
from ...protocol.ids import Address
from ...protocol.settlement.commitments import Commitment, EpochTrees, commitment_hash
from ...protocol.settlement.frauds import NO_COMMITMENT
from ..settling.claiming import on_chain

log = logging.getLogger(__name__)

DEMANDS_EACH = 3
"""Leaves of one commitment that are demanded at most while its data cannot be had, unless told otherwise."""
PATIENCE_PARTS = 4
"""Data is demanded when this part (one in so many) of the window has passed without it."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was sent: `what` is a fraud's kind, "demand" or "expire"."""

    what: str
    lane: Address
    epoch: int
    said: str
    tx: str


@dataclass(frozen=True, slots=True)
class IndexAct:
    """A proof against an index (its sha2-256 digest): `what` is the fraud's kind."""

    what: str
    maker: Address
    index: bytes
    said: str
    tx: str


@dataclass(slots=True)
class WatchReport:
    """What one round saw and did. `waiting` says what could not be looked at, and why; `doubts` what does not
    follow and cannot be proved to the chain. `indexes` counts those that were judged."""

    chain_time: int
    lanes: int = 0
    judged: int = 0
    acts: list[Act] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    indexes: int = 0
    index_acts: list[IndexAct] = field(default_factory=list)


class Demanding:
    """Makes demands, of `most` leaves of one commitment while its data cannot be had, and ends them."""

    def __init__(self, client: ChainClient, most: int = DEMANDS_EACH) -> None:
        self._client = client
        self._most = most

    def due(self, posted: PostedCommitment) -> int:
        """Until when (chain time) what is missing is waited for."""
        return posted.posted_at + self._client.deployment.window // PATIENCE_PARTS

    async def is_hiding(
        self,
        standing: tuple[PostedCommitment, ...],
        current: EpochTrees,
        demands: Sequence[Demand],
        report: WatchReport,
    ) -> bool:
        """Whether a leaf is demanded of a commitment because nobody can show it, whatever was published."""
        place = [posted.commitment for posted in standing].index(current.commitment)
        before = standing[place - 1].commitment if place else NO_COMMITMENT
        wanted = hidden_leaf(current, before)
        if wanted is None or demands:
            return wanted is not None
        return await self._demand_leaf(standing[place], *wanted, report)

    async def of_missing(
        self, posted: PostedCommitment, pending: Sequence[Demand], report: WatchReport
    ) -> None:
        """Demand leaves, unless some are demanded, enough were, or it is too early or too late."""
        window, due = self._client.deployment.window, self.due(posted)
        commitment = posted.commitment
        made = await on_chain(self._client.demands.count, posted.lane, commitment.epoch)
        if pending or not due <= report.chain_time < posted.posted_at + window:
            return
        for number in range(made, min(self._most, 1) if not made else self._most):
            wanted = _demanded_leaf(commitment, number)
            if wanted is None or not await self._demand_leaf(posted, *wanted, report):
                return

    async def _demand_leaf(
        self, posted: PostedCommitment, tree: Tree, index: int, report: WatchReport
    ) -> bool:
        """Demand this leaf; whether that was taken."""
        lane, commitment = posted.lane, posted.commitment
        try:
            sent = await on_chain(self._client.demands.demand, lane, commitment, tree, index)
        except ChainError as refused:
            report.waiting.append(f"a leaf cannot be demanded: {refused}")
            return False
        said = f"leaf {index} of the {tree.name.lower()}"
        report.acts.append(Act("demand", lane, commitment.epoch, said, sent.text))
        return True

    async def expire(self, demands: list[Demand], posted: PostedCommitment, report: WatchReport) -> bool:
        """Take back a commitment whose leaf was not shown in time; whether it was."""
        for demand in demands:
            if demand.deadline > report.chain_time:
                continue
            sent = await on_chain(self._client.demands.expire, demand, posted.commitment)
            said = f"nobody showed leaf {demand.index} of the {demand.tree.name.lower()}"
            report.acts.append(Act("expire", demand.lane, demand.epoch, said, sent.text))
            log.warning("epoch %d is taken back: %s", demand.epoch, said)
            return True
        return False


def _demanded_leaf(commitment: Commitment, made: int) -> tuple[Tree, int] | None:
    """Which leaf to demand when so many were: the last of each tree that has leaves, as it cannot be shown
    where an amount hides beyond the count; then any.
    """
    counts = {
        Tree.RECEIPTS: commitment.receipt_count,
        Tree.LINES: commitment.line_count,
        Tree.EARNINGS: commitment.account_count,
        Tree.CREDITS_BY_ACCOUNT: commitment.credit_count,
    }
    trees = [tree for tree, count in counts.items() if count]
    if not trees:
        return None
    tree = trees[made % len(trees)]
    if made < len(trees):
        return tree, counts[tree] - 1
    return tree, int.from_bytes(commitment_hash(commitment), "big") // (made + 1) % counts[tree]
