"""What the HTTP doors need of their node, and nothing more: `peer.node.Node` is one, `fake.FakeNode` too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ...protocol.attribution.faithfulness import Faithfulness
from ...protocol.gossip.adverts import DatanetRecord
from ...protocol.ids import Address, Cid, PeerId, ReceiptId
from ...protocol.signing.eip712 import Domain
from ...worker.attribution.measurement import Effort
from ...worker.factory.job import Pair, TrainConfig
from ...worker.factory.merge_job import MergePlan
from ..asking.answers import Answer, AskOptions
from ..asking.attempt_parts import Offer
from ..asking.composition import Weighted
from ..attribution.statements import ReceiptCredits
from ..clock import Clock
from ..config import Config
from ..datanets.shards import DatanetPlan
from ..home import Home
from ..store.ledger_rows import StoredReceipt
from ..store.receipt_search import ReceiptName
from .catalog_view import CatalogView


class AskerView(Protocol):
    """The workers that are known: see `peer.asker`."""

    def offers(self) -> tuple[Offer, ...]:
        """The adverts of workers believed alive."""
        ...


class HostView(Protocol):
    """Connections: see `peer.host`."""

    @property
    def peer_id(self) -> PeerId:
        """This peer."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others find it."""
        ...

    def connected(self) -> set[PeerId]:
        """Peers with an open connection."""
        ...

    async def connect(self, address: str) -> PeerId:
        """Connect to a full multiaddr. Raises ConfigError, Unreachable."""
        ...


class LedgerView(Protocol):
    """Receipts: see `peer.ledger`."""

    async def receipt(self, receipt_id: ReceiptId) -> StoredReceipt | None:
        """The receipt of this id, or of this receipt hash."""
        ...

    async def named(self, name: ReceiptName) -> tuple[StoredReceipt, ...]:
        """The receipts that this may name, a few at most."""
        ...

    async def receipts(self, *, before: int | None = None, limit: int = 50) -> tuple[StoredReceipt, ...]:
        """The newest first."""
        ...


class StoreView(Protocol):
    """The part of the store that is read here."""

    @property
    def ledger(self) -> LedgerView:
        """Receipts and channels."""
        ...


class StatementsView(Protocol):
    """Credits: see `peer.statements`."""

    async def credits(self, receipt_id: ReceiptId) -> ReceiptCredits:
        """The credits of a receipt by its id or hash. Raises NotFound and Unreachable."""
        ...


class ContentView(Protocol):
    """Blobs: see `peer.content`."""

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content. Raises NotFound, Unreachable."""
        ...

    def has(self, cid: Cid) -> bool:
        """Whether it is on this machine."""
        ...


class GatewayNode(Protocol):
    """A running peer, as the OpenAI-compatible API and the reading half of the control API see it."""

    @property
    def config(self) -> Config:
        """What a person has set."""
        ...

    @property
    def home(self) -> Home:
        """Where the control socket is."""
        ...

    @property
    def clock(self) -> Clock:
        """Wall time."""
        ...

    @property
    def domain(self) -> Domain:
        """What receipts are signed under."""
        ...

    @property
    def catalog(self) -> CatalogView:
        """Names."""
        ...

    @property
    def asker(self) -> AskerView:
        """Workers."""
        ...

    @property
    def host(self) -> HostView:
        """Connections."""
        ...

    @property
    def store(self) -> StoreView:
        """Receipts."""
        ...

    @property
    def statements(self) -> StatementsView:
        """Credits."""
        ...

    @property
    def content(self) -> ContentView:
        """Blobs."""
        ...

    @property
    def adapter_fetches(self) -> int:
        """Adapters pulled from other peers since the start."""
        ...

    def ask(self, options: AskOptions) -> AbstractAsyncContextManager[Answer]:
        """The answer to one question as it grows; leaving the block cancels it."""
        ...


@dataclass(frozen=True, slots=True)
class RowsDraft:
    """One contributor's rows before they are salted and signed.

    `contributor` names an identity of the home's keystore.
    """

    contributor: str
    rows: tuple[Pair, ...]
    licence: str
    origin: str
    notice: str = ""


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """An adapter wanted: `name` is its alias, owner/name; `datanets` are names or ids; `index_rows` of their
    rows are indexed for attribution.
    """

    name: str
    datanets: tuple[str, ...]
    config: TrainConfig
    licence: str = ""
    index_rows: int = 120
    retrainings: int = Effort().subsets
    """Short trainings that measure how faithful the index is; without any its scores divide nothing."""
    refuse_noise: bool = True
    """Measure first whose rows are no language, and train without these."""
    heldout: tuple[Pair, ...] = ()
    """Pairs that only measure; none given: every tenth row is held out."""


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """An adapter wanted that is made of others, without training: `name` is its alias, owner/name. A licence
    need only be named where the parts' differ.
    """

    name: str
    adapters: Weighted
    plan: MergePlan
    licence: str = ""


class NodeActions(Protocol):
    """What a person may order a running peer to do.

    What a method returns is shown as JSON: see `views.plain`.
    """

    async def status(self) -> Mapping[str, Any]:
        """How this peer is doing."""
        ...

    async def progress(self, receipts: Sequence[StoredReceipt]) -> Mapping[int, str]:
        """By number, how far receipts have come on the chain, as far as it is known."""
        ...

    async def accounts(self) -> Mapping[Address, str]:
        """The accounts of this home that can earn, with a name for people."""
        ...

    async def gather(self, stored: StoredReceipt, level: int) -> Mapping[str, Any]:
        """Fetch what a check of a receipt up to `level` reads. Raises NotFound, Unreachable."""
        ...

    async def gather_faithfulness(self, name: str) -> Mapping[str, Any]:
        """Fetch what measuring an adapter's faithfulness reads. Raises NotFound, Unreachable."""
        ...

    async def announce_faithfulness(self, found: Faithfulness) -> object:
        """Announce a measurement, of this peer's own adapter or of another's. Raises ConfigError,
        RemoteProtocolError, NotFound."""
        ...

    async def publish_datanet(self, plan: DatanetPlan, drafts: Sequence[RowsDraft]) -> DatanetRecord:
        """Salt, sign and publish rows as the next version of a Datanet. Raises InvalidShard, NotFound."""
        ...

    async def withdraw(self, datanet: str, contributor: str, reason: str) -> Mapping[str, Any]:
        """Take a contributor's shards of a Datanet back; what became of them, and which adapters learnt from
        them. Raises NotFound, Unreachable."""
        ...

    def train(self, order: TrainOrder) -> AbstractAsyncContextManager[AsyncIterator[object]]:
        """Train, index and publish an adapter: `async with actions.train(order) as updates`; the last update
        tells what was published. Leaving the block stops the training; ordered again, it goes on.
        """
        ...

    def merge(self, order: MergeOrder) -> AbstractAsyncContextManager[AsyncIterator[object]]:
        """Merge adapters into one and publish it; the last update tells what was published."""
        ...

    async def settle_once(self) -> object:
        """One round of settlement. Raises ConfigError without a chain."""
        ...

    async def claim(self) -> object:
        """Claim what this home has earned. Raises ConfigError without a chain."""
        ...

    async def deposit(self, amount: int) -> object:
        """Move token units into this home's escrow. Raises ConfigError without a chain, ChainError."""
        ...
