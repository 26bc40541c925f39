"""A home's binding: kept over restarts, and renewed in time, also by a node that never restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.clock import ManualClock
from commonlore.peer.identity import own_binding
from commonlore.peer.identity.keystore import Keys
from commonlore.peer.identity.own_binding import BINDING_LIFETIME_S, BINDING_RENEWAL_S, OwnBinding
from commonlore.peer.store.node_store import open_store
from commonlore.protocol.ids import Address
from commonlore.protocol.signing.bindings import check_binding
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.keys import AccountKey, PeerKey

DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
NOW_S = 1_900_000_000


def keys(owner: int = 1) -> Keys:
    accounts = (AccountKey.from_secret(bytes([n]) * 32) for n in (owner, 9))
    return Keys(PeerKey.generate(b"p" * 32), *accounts)


async def test_a_running_node_renews_its_binding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(own_binding, "LOOK_AGAIN_S", 0.01)
    clock = ManualClock(NOW_S * 1000)
    async with (
        open_aio() as aio,
        open_store(tmp_path / "store.db", aio) as store,
        trio.open_nursery() as nursery,
    ):
        own = OwnBinding(store.settings, keys(), DOMAIN, clock)
        assert await own.renew()
        first = own.current()
        nursery.start_soon(own.run)
        clock.advance((BINDING_LIFETIME_S - BINDING_RENEWAL_S) * 1000)
        await until(lambda: own.current() != first)
        now = clock.now_ms() // 1000
        check_binding(DOMAIN, own.current(), now)
        assert own.current().binding.not_after == now + BINDING_LIFETIME_S
        nursery.cancel_scope.cancel()


async def test_a_kept_binding_is_used_until_it_ends_soon(tmp_path: Path) -> None:
    clock = ManualClock(NOW_S * 1000)
    async with open_aio() as aio, open_store(tmp_path / "store.db", aio) as store:
        own = OwnBinding(store.settings, keys(), DOMAIN, clock)
        assert await own.renew()
        clock.advance((BINDING_LIFETIME_S - BINDING_RENEWAL_S - 1) * 1000)
        restarted = OwnBinding(store.settings, keys(), DOMAIN, clock)
        assert not await restarted.renew()
        assert restarted.current() == own.current()
        other_owner = OwnBinding(store.settings, keys(owner=2), DOMAIN, clock)
        assert await other_owner.renew()
        assert other_owner.current().binding.owner == keys(owner=2).owner.address
