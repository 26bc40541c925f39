"""Demands for leaves of a posted commitment: made by who misses its data, answered by who has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ...protocol.ids import Address, checksummed, to_address
from ...protocol.settlement.commitments import Commitment, EpochTrees
from ...protocol.settlement.epoch_leaves import pack_credit, pack_line
from ...protocol.settlement.frauds import NO_COMMITMENT
from ...protocol.settlement.openings import open_credit, open_earning, open_line, open_receipt
from ..calling.events import EventLog, EventReader
from ..calling.transactions import Sent
from ..calling.tuples import commitment_tuple
from .calls import ContractCalls
from .proving import path_tuples, receipt_opening


class Tree(IntEnum):
    """Which of a commitment's trees a leaf is of."""

    RECEIPTS = 0
    LINES = 1
    EARNINGS = 2
    CREDITS_BY_ACCOUNT = 3
    CREDITS_BY_POOL = 4


def hidden_leaf(trees: EpochTrees, previous: Commitment) -> tuple[Tree, int] | None:
    """A leaf that nobody can show, whatever was published: its tree does not sum to what the chain compares.

    So no proof reaches that tree either. A lane that leaves out a part of a receipt has such lines.
    """
    commitment = trees.commitment
    sums = (
        (Tree.LINES, trees.line_tree, commitment.receipt_sum),
        (Tree.CREDITS_BY_ACCOUNT, trees.account_credit_tree, previous.receipt_sum),
        (Tree.CREDITS_BY_POOL, trees.pool_credit_tree, previous.receipt_sum),
    )
    hidden = ((which, tree.count - 1) for which, tree, due in sums if tree.count and tree.total != due)
    return next(hidden, None)


@dataclass(frozen=True, slots=True)
class Demand:
    """A leaf that somebody wants to see by `deadline` (chain time)."""

    id: bytes
    lane: Address
    epoch: int
    tree: Tree
    index: int
    deadline: int


class DemandsClient:
    """Demands through a chain client. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client
        names = ("Demanded", "Answered", "ReceiptAnswered", "DemandExpired")
        reader = EventReader(client.endpoint, "Demands", client.deployment.demands, names)
        self._log = EventLog(reader, client.deployment.block)

    def open(self) -> tuple[Demand, ...]:
        """Demands that are neither answered nor expired, in their order."""
        waiting: dict[bytes, Demand] = {}
        for event in self._log.all():
            given = event.arguments
            id_ = bytes(given["id"])
            if event.name == "Demanded":
                place = (Tree(given["tree"]), int(given["index"]), int(given["deadline"]))
                waiting[id_] = Demand(id_, to_address(given["lane"]), int(given["epoch"]), *place)
            else:
                waiting.pop(id_, None)
        return tuple(waiting.values())

    def count(self, lane: Address, epoch: int) -> int:
        """How many leaves of a lane's epoch were demanded so far."""
        text = checksummed(lane)
        return sum(
            (event.name, event.arguments.get("lane"), event.arguments.get("epoch"))
            == ("Demanded", text, epoch)
            for event in self._log.all()
        )

    def demand(self, lane: Address, commitment: Commitment, tree: Tree, index: int) -> Sent:
        """Demands a leaf, with the network's stake; approves as needed."""
        if self._client.deployment.demand_stake:
            self._client.approve(self._client.deployment.demands, self._client.deployment.demand_stake)
        return self._send("demand", checksummed(lane), commitment_tuple(commitment), int(tree), index)

    def answer(self, demand: Demand, trees: EpochTrees, previous: Commitment | None) -> Sent:
        """Shows the leaf that is demanded; the stake is this account's then."""
        lane, commitment = checksummed(demand.lane), commitment_tuple(trees.commitment)
        if demand.tree is Tree.RECEIPTS:
            opening = receipt_opening(open_receipt(trees, demand.index))
            return self._send("answerReceipt", lane, commitment, opening)
        leaf, path = _packed_leaf(trees, demand.tree, demand.index)
        before = commitment_tuple(previous or NO_COMMITMENT)
        return self._send("answer", lane, before, commitment, int(demand.tree), demand.index, leaf, path)

    def expire(self, demand: Demand, commitment: Commitment) -> Sent:
        """Takes back a commitment whose leaf nobody showed in time."""
        place = (commitment_tuple(commitment), int(demand.tree), demand.index)
        return self._send("expire", checksummed(demand.lane), *place)

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Demands", name, *arguments))


def _packed_leaf(trees: EpochTrees, tree: Tree, index: int) -> tuple[bytes, list[tuple[bytes, int]]]:
    """A leaf's fields as they are hashed, and its path."""
    match tree:
        case Tree.LINES:
            line = open_line(trees, index)
            return pack_line(line.line), path_tuples(line.path)
        case Tree.EARNINGS:
            earning = open_earning(trees, index)
            packed = earning.account + earning.cumulative.to_bytes(16, "big")
            return packed, path_tuples(earning.path)
        case _:
            credit = open_credit(trees, tree is Tree.CREDITS_BY_POOL, index)
            return pack_credit(credit.credit), path_tuples(credit.path)
