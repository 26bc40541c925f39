"""Who is asked for a second statement: who has bonded on the chain, and anybody where nobody has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from commonlore.peer.attribution.second_draw import DrawFacts, bonded_list
from commonlore.peer.attribution.second_opinions import SecondOpinions
from commonlore.peer.chain import OFFLINE
from commonlore.protocol.errors import Refused, RemoteProtocolError, Unreachable
from commonlore.protocol.ids import Address, cid_of, peer_id_of
from commonlore.protocol.receipts.seconding import BondedList
from commonlore.protocol.signing.keys import PeerKey

BASE, OTHER_BASE = cid_of(b"base"), cid_of(b"another")
PEERS = [PeerKey.generate(bytes([number]) * 32) for number in range(6)]
OWNERS = [Address(bytes([number + 1]) * 20) for number in range(6)]
RECEIPTS = [bytes([number]) * 32 for number in range(40)]


def offer(number: int, base: Any = BASE) -> Any:
    binding = SimpleNamespace(binding=SimpleNamespace(owner=OWNERS[number]))
    ad = SimpleNamespace(base=base, binding=binding)
    return SimpleNamespace(peer=peer_id_of(PEERS[number].public), ad=ad)


class Chain:
    """What of a chain client is asked."""

    def __init__(self, *bonded: int, away: bool = False) -> None:
        self._bonded = bonded
        self._away = away
        self.bonds = self.beacon = self.draws = self
        self.terms = SimpleNamespace(minimum_bond=100)

    def head(self) -> int:
        return 7

    def bonded(self, role: object) -> list[Any]:
        if self._away:
            raise Unreachable("the chain is away")
        dust = SimpleNamespace(account=OWNERS[1], standing=99)
        return [dust, *(SimpleNamespace(account=OWNERS[number], standing=100) for number in self._bonded)]


def node_of(chain: Chain | None) -> Any:
    return SimpleNamespace(
        host=SimpleNamespace(peer_id=peer_id_of(PEERS[0].public)),
        keys=SimpleNamespace(owner=SimpleNamespace(address=OWNERS[0])),
        asker=SimpleNamespace(offers=lambda: [*map(offer, range(5)), offer(5, OTHER_BASE)]),
        chain=SimpleNamespace(client=chain),
        domain=OFFLINE,
        rpc=SimpleNamespace(serve=lambda *_: None),
    )


async def asked(chain: Chain | None, beacon: bytes = b"", silent: tuple[int, ...] = ()) -> list[int | None]:
    """Peer 0 draws for every receipt; peer 5 serves another base; `silent` were asked before."""
    node = node_of(chain)
    opinions = SecondOpinions(node, SimpleNamespace(), BASE)  # type: ignore[arg-type]
    peers = [peer_id_of(key.public) for key in PEERS]
    listed = await bonded_list(chain)  # type: ignore[arg-type]
    before = [peers[number] for number in silent]
    drawn = [opinions._draw(receipt, beacon, listed, before) for receipt in RECEIPTS]
    return [None if peer is None else peers.index(peer) for peer in drawn]


async def test_only_who_has_bonded_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    first = await asked(Chain(2, 3, 5))
    assert set(first) == {2, 3}
    assert await asked(Chain(2, 3, 5)) == first
    assert await asked(Chain(2, 3, 5), b"beacon") != first
    assert not caplog.records


@pytest.mark.parametrize("chain", [None, Chain(), Chain(5), Chain(0), Chain(2, away=True)])
async def test_where_nobody_has_anybody_is_asked_and_that_is_said(
    chain: Chain | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One's own bond is no other's, and who serves another base cannot score."""
    assert set(await asked(chain)) == {1, 2, 3, 4}
    assert [record.levelname for record in caplog.records if "bonded as an attributor" in record.message] == [
        "WARNING"
    ]


async def test_who_says_nothing_is_followed_by_the_next_in_the_lot_and_by_no_stranger() -> None:
    first = await asked(Chain(1, 2, 3))
    following = await asked(Chain(1, 2, 3), silent=(2,))
    assert set(following) == {1, 3}
    assert all(a in (2, b) for a, b in zip(first, following, strict=True))
    assert set(await asked(Chain(2, 3), silent=(2, 3))) == {None}, "whoever has not bonded is not drawn then"
    assert set(await asked(Chain(), silent=(1, 2))) == {3, 4}


async def test_what_was_stated_before_an_index_was_challenged_is_stated_again_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first who is asked says nothing, the next does: both are shown the statement as it is made now."""
    kept, shown = list[str](), list[tuple[int, str]]()

    class Statements:
        async def put_statement(self, sealed: Any) -> None:
            kept.append(sealed.record.method)

    def stated(method: str, challenged: int | None = None) -> Any:
        record = SimpleNamespace(
            adapter="a", index="i", method=method, challenged=challenged, weights=(), faithfulness=None
        )
        return SimpleNamespace(record=record)

    class Attributor:
        def challenged(self, *of: str) -> int | None:
            return 3 if of == ("a", "i") else None

        async def state(self, answer: Any) -> Any:
            assert answer.output == (1, 2)
            return stated("prior-challenged", 3)

    async def say(_: Any, peer: Any, _step: Any, own: Any, _draw: Any) -> Any:
        shown.append((peers.index(peer), own.method))
        return None if len(shown) == 1 else stated("second")

    monkeypatch.setattr(SecondOpinions, "_try", say)
    peers = [peer_id_of(key.public) for key in PEERS]
    node = node_of(None)
    node.store = SimpleNamespace(records=Statements())
    step: Any = SimpleNamespace(
        receipt_hash=RECEIPTS[0], request=SimpleNamespace(prompt=None), before=(1,), tokens=(2,)
    )
    await SecondOpinions(node, Attributor(), BASE).seek(step, stated("by scores"))  # type: ignore[arg-type]
    assert [method for _, method in shown] == ["prior-challenged"] * 2
    assert len({peer for peer, _ in shown}) == 2
    assert kept == ["prior-challenged", "second"]


class Shown:
    """A call in which a peer shows something."""

    def __init__(self, number: int, raw: bytes) -> None:
        self.peer, self.raw = peer_id_of(PEERS[number].public), raw

    async def receive(self) -> bytes:
        return self.raw


async def test_who_is_being_served_has_nothing_more_opened() -> None:
    """Its signatures would be checked, a thousand of them, for nothing."""
    opinions = SecondOpinions(node_of(None), SimpleNamespace(), BASE)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError):
        await opinions._serve(Shown(1, b"no opening"))  # type: ignore[arg-type]
    opinions._running.add(Shown(1, b"").peer)
    with pytest.raises(Refused, match="at a time"):
        await opinions._serve(Shown(1, b"no opening"))  # type: ignore[arg-type]
    opinions._running |= {Shown(number, b"").peer for number in range(2, 5)}
    with pytest.raises(Refused, match="few"):
        await opinions._serve(Shown(5, b"no opening"))  # type: ignore[arg-type]


class Disk:
    """What a node was made to keep, and what it keeps for good."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    async def hold(self, data: bytes) -> Any:
        self.held.append(data)
        return cid_of(data)


async def test_a_stranger_s_list_is_kept_only_where_it_is_right_and_never_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node whose quota was full of pinned lists could publish nothing any more, not even an epoch."""
    facts = DrawFacts({OWNERS[1]}, {OWNERS[1]}, ())

    async def known(*_: object) -> DrawFacts:
        return facts

    monkeypatch.setattr("commonlore.peer.attribution.second_opinions.drawn_facts", known)
    node = node_of(Chain(1))
    node.content, node.binding = Disk(), SimpleNamespace(current=lambda: None)
    opinions = SecondOpinions(node, SimpleNamespace(), BASE)  # type: ignore[arg-type]

    def shown(*accounts: Address) -> Any:
        paid = SimpleNamespace(signed=SimpleNamespace(receipt=None))
        return SimpleNamespace(bonded=BondedList(7, accounts), beacon=b"", paid=paid)

    with pytest.raises(RemoteProtocolError, match="had not bonded"):
        await opinions._as_drawn(shown(OWNERS[1], OWNERS[2]))
    assert node.content.held == []
    drawn = await opinions._as_drawn(shown(OWNERS[1]))
    assert [cid_of(data) for data in node.content.held] == [drawn.bonded]
