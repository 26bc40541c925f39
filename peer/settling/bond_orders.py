"""Bonds by this home's keys alone: shown, added to, announced to leave, taken out. No peer is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...contracts.client.bonding import BondRole
from ...contracts.client.chain import ChainClient
from ...protocol.errors import ConfigError
from ...protocol.ids import checksummed
from ..chain import load_deployment
from ..config import Config
from ..identity.keystore import Keystore

ROLES = tuple(role.name.lower() for role in BondRole)


def role_named(text: str) -> BondRole:
    """A role by its name. Raises ConfigError, naming those that there are."""
    if text not in ROLES:
        raise ConfigError(f"no role {text!r} has bonds; there are {', '.join(ROLES)}")
    return BondRole[text.upper()]


@contextmanager
def owner_client(config: Config, keystore: Keystore) -> Iterator[ChainClient]:
    """A client of this home's owner. Raises ConfigError without a chain."""
    deployment = load_deployment(config.deployment)
    if not config.chain_url or deployment is None:
        raise ConfigError("bonds are on the chain: name it with --chain-url URL --deployment FILE")
    client = ChainClient(config.chain_url, deployment, keystore.own().owner.secret)
    try:
        yield client
    finally:
        client.close()


def read_bonds(client: ChainClient) -> list[Mapping[str, Any]]:
    """The owner's bond in each role where it has one. Times are Unix seconds. Raises ChainError."""
    found = ((role, client.bonds.of(client.address, role)) for role in BondRole)
    return [
        {
            "account": checksummed(client.address),
            "role": role.name.lower(),
            "amount": bond.amount,
            "thawing": bond.thawing,
            "thaws_at": bond.thaw_at if bond.thawing else None,
            "frozen": client.bonds.is_frozen(client.address, role),
        }
        for role, bond in found
        if bond.amount
    ]
