"""What a person may order a fake node to do: orders are kept and answered, nothing happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...protocol.attribution.faithfulness import Faithfulness
from ...protocol.errors import CommonloreError
from ...protocol.gossip.adverts import DatanetRecord
from ...protocol.ids import Address, cid_of
from ...worker.factory.job import TrainProgress
from ..attribution.measured import UNMEASURED
from ..datanets.shards import DatanetPlan
from ..store.ledger_rows import StoredReceipt
from .fake import CONTRIBUTOR, NOW_MS, FakeNode
from .node import MergeOrder, NodeActions, RowsDraft, TrainOrder


@dataclass(slots=True)
class FakeActions:
    """Orders are kept, and answered with what a real node would say. `error` is raised instead, once set."""

    node: FakeNode
    error: CommonloreError | None = None
    published: list[tuple[DatanetPlan, Sequence[RowsDraft]]] = field(default_factory=list)
    withdrawn: list[tuple[str, str, str]] = field(default_factory=list)
    trained: list[TrainOrder] = field(default_factory=list)
    merged: list[MergeOrder] = field(default_factory=list)
    announced: list[Faithfulness] = field(default_factory=list)
    measures_own: bool = True
    """Whether what is announced is of this peer's own adapter."""
    losses: tuple[float | None, float | None] = (4.6, 1.6)
    deposited: int = 0
    chain: str | None = None
    reached: dict[int, str] = field(default_factory=dict)
    names: dict[Address, str] = field(default_factory=dict)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def status(self) -> Mapping[str, Any]:
        """A few facts."""
        self._check()
        purse = {"balance": self.deposited, "tokens": 70_000, "gas_wei": 25 * 10**16}
        return {
            "peer_id": self.node.host.peer_id,
            "roles": list(self.node.config.roles),
            "addresses": list(self.node.host.addresses),
            "owner": CONTRIBUTOR,
            "connected": sorted(self.node.host.connected()),
            "workers": [],
            "adapters": [],
            "datanets": [],
            "retrieval": "by words",
            "chain": self.chain,
            "epoch": 3,
            "purse": purse if self.chain else None,
            "worker": None,
            "settlement": None,
            "registering": None,
            "checking": None,
            "watching": None,
        }

    async def progress(self, receipts: Sequence[StoredReceipt]) -> Mapping[int, str]:
        """What was put into `reached`."""
        return self.reached

    async def accounts(self) -> Mapping[Address, str]:
        """What was put into `names`."""
        return self.names

    async def gather(self, stored: StoredReceipt, level: int) -> Mapping[str, Any]:
        """Everything is here."""
        self._check()
        return {"level": level, "adapter": None}

    async def gather_faithfulness(self, name: str) -> Mapping[str, Any]:
        """Everything is here."""
        self._check()
        return {"adapter": cid_of(name.encode())}

    async def announce_faithfulness(self, found: Faithfulness) -> object:
        """Keep it."""
        self._check()
        self.announced.append(found)
        return {"statement": cid_of(found.method.encode()), "by_author": self.measures_own}

    async def publish_datanet(self, plan: DatanetPlan, drafts: Sequence[RowsDraft]) -> DatanetRecord:
        """Version 1 of whatever it is."""
        self._check()
        self.published.append((plan, drafts))
        return DatanetRecord(plan.name, 1, cid_of(plan.name.encode()), 1, NOW_MS)

    async def withdraw(self, datanet: str, contributor: str, reason: str) -> Mapping[str, Any]:
        """One shard, which one adapter learnt from."""
        self._check()
        self.withdrawn.append((datanet, contributor, reason))
        shard = cid_of(contributor.encode())
        rows = [{"contributor": contributor, "payee": CONTRIBUTOR, "rows": 3}]
        index = {"index": cid_of(b"index"), "difference": cid_of(b"difference"), "rows_taken": rows}
        adapter = {"alias": "alice/icd10", "adapter": cid_of(b"tainted")}
        tainted = [{**adapter, **index, "without_difference": ""}]
        return {"datanet": datanet, "shards": [shard], "version": 2, "tainted": tainted}

    @asynccontextmanager
    async def train(self, order: TrainOrder) -> AsyncIterator[AsyncIterator[object]]:
        """Two steps, and then `error` if there is one."""
        self.trained.append(order)
        yield self._updates(order)

    async def _updates(self, order: TrainOrder) -> AsyncIterator[object]:
        for step in (1, 2):
            yield TrainProgress("training", step, 2, loss=2.0 / step)
        self._check()
        before, after = self.losses
        adapter = cid_of(order.name.encode())
        trained = {"alias": order.name, "adapter": adapter, "loss_before": before, "loss_after": after}
        told = f"rank correlation with {order.retrainings} retrainings" if order.retrainings else UNMEASURED
        yield trained | {"faithfulness": told}

    @asynccontextmanager
    async def merge(self, order: MergeOrder) -> AsyncIterator[AsyncIterator[object]]:
        """One step, and then `error` if there is one."""
        self.merged.append(order)
        yield self._merging(order)

    async def _merging(self, order: MergeOrder) -> AsyncIterator[object]:
        yield TrainProgress("merging", 1, 1)
        self._check()
        yield {"alias": order.name, "adapter": cid_of(order.name.encode()), "rank": 8, "weights_bytes": 1}

    async def settle_once(self) -> object:
        """Nothing to settle."""
        self._check()
        return {"redeemed": 0}

    async def claim(self) -> object:
        """Nothing to claim."""
        self._check()
        return []

    async def deposit(self, amount: int) -> object:
        """Add it up."""
        self._check()
        self.deposited += amount
        return {"owner": CONTRIBUTOR, "balance": self.deposited, "tokens": 70_000, "gas_wei": 10**18}


if TYPE_CHECKING:
    _are_actions: type[NodeActions] = FakeActions
