"""Giving a contributor a new payee account: made offline, and told to the chain where one is configured.

The chain is asked before anything changes. The old key stays in the keystore: it signs the rotation, and owns
what had been paid out to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...protocol.errors import ConfigError
from ...protocol.ids import Address
from ..chain import load_deployment
from ..config import Config
from ..identity.keystore import Identity, Keystore

if TYPE_CHECKING:
    from ...contracts.client.chain import ChainClient


@dataclass(frozen=True, slots=True)
class Rotation:
    """An identity's new payee; `transaction` is None where no chain is configured."""

    before: Address
    identity: Identity
    transaction: str | None


def rotate_payee(keystore: Keystore, name: str, config: Config) -> Rotation:
    """Replace the payee of a named identity.

    Raises NotFound, ConfigError, Unreachable (nothing was changed), ChainError (the local key was).
    """
    client = _client(config, keystore)
    try:
        if client is not None:
            client.check()
        before, after = keystore.replace_payee(name)
        sent = client and client.registry.rotate_payee(before.payee, after.payee.address)
        return Rotation(before.payee.address, after, sent.text if sent else None)
    finally:
        if client is not None:
            client.close()


def _client(config: Config, keystore: Keystore) -> ChainClient | None:
    if not config.chain_url:
        return None
    deployment = load_deployment(config.deployment)
    if deployment is None:
        raise ConfigError("chain_url is set but deployment is not; give the deployment JSON of this network")
    from ...contracts.client.chain import ChainClient

    return ChainClient(config.chain_url, deployment, keystore.own().owner.secret)
