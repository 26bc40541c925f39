"""Who earns what from a receipt: its shares, by a statement on it or else by the prior weights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..protocol.attribution import check_weights, prior_weights
from ..protocol.credits import RolePayees, compute_credits, heaviest_adapter
from ..protocol.errors import RemoteProtocolError
from ..protocol.ids import Address, Cid
from ..protocol.manifests import AdapterManifest
from ..protocol.receipts import Credit, Receipt, Weight
from .records import Records

ReadManifest = Callable[[Cid], Awaitable[AdapterManifest]]
"""An adapter's manifest by its id. Raises NotFound, Unreachable, InvalidAdapter."""


@dataclass(frozen=True, slots=True)
class NetworkAccounts:
    """The accounts of the platform's and the work pool's shares, fixed at deployment."""

    platform: Address
    work_pool: Address


class Crediting:
    """Divides receipts. `attributor` is the Ed25519 key whose statements count here."""

    def __init__(
        self, accounts: NetworkAccounts, records: Records, manifest: ReadManifest, attributor: bytes
    ) -> None:
        self._accounts = accounts
        self._records = records
        self._manifest = manifest
        self._attributor = attributor

    async def credits_of(self, receipt: Receipt, receipt_hash: bytes, worker: Address) -> tuple[Credit, ...]:
        """The credits of a receipt; they sum to its price. `worker` is where the worker's share goes.

        Raises what reading the adapter's manifest raises, and ProtocolError where manifest and receipt
        disagree.
        """
        adapter = heaviest_adapter(receipt.adapters)
        if adapter is None:
            payees = RolePayees(self._accounts.platform, worker, None, self._accounts.work_pool)
            return compute_credits(receipt, payees, ())
        manifest = await self._manifest(adapter)
        payees = RolePayees(self._accounts.platform, worker, manifest.author_payee, self._accounts.work_pool)
        weights = await self.weights_of(manifest, adapter, receipt_hash)
        return compute_credits(receipt, payees, weights)

    async def weights_of(
        self, manifest: AdapterManifest, adapter: Cid, receipt_hash: bytes
    ) -> tuple[Weight, ...]:
        """The contributors' weights: the attributor's statement if there is a valid one, else the priors."""
        known = {prior.payee for prior in manifest.priors}
        for sealed in await self._records.statements(receipt_hash, adapter):
            weights = sealed.record.weights
            if sealed.public_key == self._attributor and _is_valid(weights, known):
                return weights
        return prior_weights(manifest)


def _is_valid(weights: tuple[Weight, ...], contributors: set[Address]) -> bool:
    """Whether weights are well-formed and pay only the adapter's contributors."""
    try:
        check_weights(weights)
    except RemoteProtocolError:
        return False
    return {weight.payee for weight in weights} <= contributors
