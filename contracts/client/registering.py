"""The Registry through a chain client: bases, Datanets, adapters, payees, alias logs.

Records are referred to by id: keccak256(abi.encode(account, …)), so an id contains whose record it is.
"""

from __future__ import annotations

from typing import Any

from ...protocol.content.manifests import DatanetManifest, Split
from ...protocol.content.splits import SplitBounds
from ...protocol.ids import ZERO_ADDRESS, Address, Cid, checksummed, digest_of, keccak256, to_address
from ...protocol.signing.eip712 import sign
from ...protocol.signing.keys import AccountKey
from ..calling.records import AdapterEntry, AdapterRegistration, AliasLog, DatanetEntry, PayeeRotation
from ..calling.transactions import Sent
from ..calling.tuples import split_tuple
from .calls import ContractCalls


def datanet_record_id(owner: Address, name: str, version: int) -> bytes:
    """Record id (32 bytes) of a version of an owner's Datanet."""
    return keccak256(_word(owner) + keccak256(name.encode()) + version.to_bytes(32, "big"))


def adapter_record_id(author_payee: Address, adapter: Cid) -> bytes:
    """Record id (32 bytes) of an adapter under the payee its manifest names."""
    return keccak256(_word(author_payee) + digest_of(adapter))


def datanet_entry(datanet: Cid, manifest: DatanetManifest) -> DatanetEntry:
    """What is registered of a Datanet version; the licence by the hash of its name."""
    licence = keccak256(manifest.licence.encode())
    return DatanetEntry(digest_of(datanet), manifest.contributors_root, licence)


class RegistryClient:
    """What a network registers. Blocking and thread-safe, like the client it belongs to."""

    def __init__(self, client: ContractCalls) -> None:
        self._client = client

    def register_base(self, base: Cid) -> Sent:
        """Makes a base model's id known. Doing it again changes nothing."""
        return self._send("registerBase", digest_of(base))

    def base_registrant(self, base: Cid) -> Address | None:
        """Who made a base model known; None if nobody did."""
        return _account(self._read("bases", digest_of(base)))

    def register_datanet(self, name: str, version: int, entry: DatanetEntry) -> bytes:
        """Records the next version of this account's Datanet; its record id."""
        fields = (entry.manifest, entry.contributors_root, entry.licence)
        self._send("registerDatanet", name, version, fields)
        return datanet_record_id(self._client.address, name, version)

    def datanet(self, record_id: bytes) -> DatanetEntry | None:
        """A registered Datanet version."""
        entry = DatanetEntry(*self._read("datanets", record_id))
        return entry if any(entry.manifest) else None

    def datanet_version(self, owner: Address, name: str) -> int:
        """The last version registered of an owner's Datanet; 0 if none."""
        return int(self._read("datanetVersions", checksummed(owner), keccak256(name.encode())))

    def sign_adapter(self, registration: AdapterRegistration, author: AccountKey) -> bytes:
        """The author payee's signature (65 bytes) that registering needs."""
        return sign(self._client.deployment.domain, author, registration)

    def register_adapter(self, registration: AdapterRegistration, signature: bytes) -> bytes:
        """Records an adapter under its author's payee, who signed; its record id.

        Any account may submit it.
        """
        fields = (
            digest_of(registration.adapter),
            digest_of(registration.base),
            list(registration.datanets),
            list(registration.parents),
            split_tuple(registration.split),
            checksummed(registration.author_payee),
        )
        self._send("registerAdapter", fields, signature)
        return adapter_record_id(registration.author_payee, registration.adapter)

    def split_bounds(self) -> SplitBounds:
        """Within what an adapter's split must lie in this deployment."""
        return SplitBounds(Split(*self._read("floor")), Split(*self._read("ceiling")))

    def adapter(self, record_id: bytes) -> AdapterEntry | None:
        """A registered adapter."""
        base, lineage, split, registered_at = self._read("adapters", record_id)
        return AdapterEntry(base, lineage, Split(*split), registered_at) if registered_at else None

    def rotate_payee(self, previous: AccountKey, successor: Address) -> Sent:
        """From now on what `previous` earns is paid to `successor`, for ever. Any account may submit it."""
        rotation = PayeeRotation(previous.address, successor)
        signature = sign(self._client.deployment.domain, previous, rotation)
        return self._send("rotatePayee", checksummed(previous.address), checksummed(successor), signature)

    def current_payee(self, account: Address) -> Address:
        """Where an account's earnings are paid today."""
        return to_address(self._read("currentPayee", checksummed(account)))

    def append_aliases(self, log: AliasLog, previous: bytes) -> Sent:
        """Moves this account's alias log on to `log`, which was built on the head `previous` (zero bytes at
        first)."""
        return self._send("appendAliases", previous, log.head, log.length)

    def alias_log(self, owner: Address) -> AliasLog:
        """The head of an owner's alias log."""
        return AliasLog(*self._read("aliasLogs", checksummed(owner)))

    def _read(self, name: str, *arguments: Any) -> Any:
        return self._client.endpoint.read(name, self._client.function("Registry", name, *arguments))

    def _send(self, name: str, *arguments: Any) -> Sent:
        return self._client.send(name, self._client.function("Registry", name, *arguments))


def _account(text: str) -> Address | None:
    account = to_address(text)
    return None if account == ZERO_ADDRESS else account


def _word(account: Address) -> bytes:
    return bytes(12) + account
