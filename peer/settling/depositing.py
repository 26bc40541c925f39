"""Money into escrow: by a running node, or by this home's keys alone. No peer is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from ...contracts.client.chain import ChainClient
from ...protocol.errors import ConfigError
from ...protocol.ids import Address, checksummed
from ...protocol.signing.bindings import SignedBinding
from ..aio import open_aio
from ..chain import open_chain
from ..clock import WallClock
from ..config import Config
from ..home import Home
from ..identity.keystore import Keystore
from ..identity.own_binding import OwnBinding
from ..store.node_store import open_store
from .claiming import on_chain


async def deposit(client: ChainClient, binding: SignedBinding, amount: int) -> Mapping[str, Any]:
    """Bind a session key and move token units into its owner's escrow. Raises ChainError, Unreachable."""
    await on_chain(client.bind, binding)
    await on_chain(client.deposit, amount)
    owner = binding.binding.owner
    return {"owner": checksummed(owner), **await purse_of(client, owner)}


async def purse_of(client: ChainClient, owner: Address) -> Mapping[str, int]:
    """What an owner has: `balance` in escrow and `tokens` outside it, in token units; `gas_wei`.

    Raises ChainError, Unreachable.
    """

    def read() -> Mapping[str, int]:
        escrow = client.owner_balance(owner).amount
        return {"balance": escrow, "tokens": client.balance(owner), "gas_wei": client.gas_balance(owner)}

    return await trio.to_thread.run_sync(read, abandon_on_cancel=True)


def deposit_alone(home: Home, config: Config, keystore: Keystore, amount: int) -> Mapping[str, Any]:
    """Deposit by the keys of a home in which no node runs. Raises ConfigError, ChainError, Unreachable."""
    if not config.chain_url:
        raise ConfigError(
            f"no node runs in {home.path}, and no chain is configured: "
            "name it with --chain-url URL --deployment FILE"
        )

    async def work() -> Mapping[str, Any]:
        with home.create().lock():
            return await _deposit_in(home, config, keystore, amount)

    return trio.run(work)


async def _deposit_in(home: Home, config: Config, keystore: Keystore, amount: int) -> Mapping[str, Any]:
    keys, clock = keystore.own(), WallClock()
    async with (
        open_aio() as aio,
        open_store(home.store, aio) as store,
        open_chain(config, keys, store.settings, clock) as chain,
    ):
        if chain.client is None:
            raise ConfigError("a deposit needs chain_url and deployment")
        binding = OwnBinding(store.settings, keys, chain.domain, clock)
        await binding.renew()
        return await deposit(chain.client, binding.current(), amount)
