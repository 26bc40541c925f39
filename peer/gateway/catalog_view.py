"""What is shown to programs reads of a node's catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from ...protocol.content.manifests import AdapterManifest, DatanetManifest
from ...protocol.gossip.adverts import AdapterRecord, DatanetRecord, MeasurementRecord
from ...protocol.ids import Cid

T = TypeVar("T")


class CatalogView(Protocol):
    """Names of adapters and Datanets: see `peer.catalog`."""

    withdrawn: set[Cid]
    """Shards that were taken back."""

    def adapters(self) -> tuple[AdapterRecord, ...]:
        """Every adapter record in force, by alias."""
        ...

    def datanets(self) -> tuple[DatanetRecord, ...]:
        """Every Datanet record in force, by name."""
        ...

    def record_of(self, adapter: Cid, announcer: bytes | None = None) -> AdapterRecord | None:
        """The latest record that names this adapter id; of this key, where one is given."""
        ...

    def measurements_of(self, adapter: Cid) -> tuple[MeasurementRecord, ...]:
        """The latest record of each peer that says to have measured this adapter."""
        ...

    def datanet_record(self, name: str) -> DatanetRecord:
        """The record of a Datanet by its name. Raises NotFound."""
        ...

    def adapter_id(self, name: str) -> Cid:
        """The adapter id behind `owner/name`, or an id itself. Raises NotFound."""
        ...

    async def patiently(self, look: Callable[[], T]) -> T:
        """What `look` finds by names that may have been announced elsewhere just now. Raises as it does."""
        ...

    async def datanet(self, datanet: Cid) -> DatanetManifest:
        """The Datanet manifest of this id, pulled if need be. Raises NotFound, Unreachable, ProtocolError."""
        ...

    async def adapter(self, adapter: Cid) -> AdapterManifest:
        """The manifest of this id, pulled if need be. Raises NotFound, Unreachable, InvalidAdapter."""
        ...
