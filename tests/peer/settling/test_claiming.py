"""Claiming in somebody else's lane, from what it published."""

import json

import pytest

from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.deploying.deployment import Terms
from commonlore.peer.clock import ManualClock
from commonlore.peer.settling.claiming import Claimer, latest_final, prove
from commonlore.protocol.errors import NotFound, RemoteProtocolError
from commonlore.protocol.ids import Address

TERMS = Terms(epoch_length=1_000, window=500, grace=100)
CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(3))


async def test_a_contributor_claims_from_the_published_data(chain, path, tmp_path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 10_000)
        for advance in (lambda: chain.end_epoch(0), lambda: chain.end_epoch(1)):
            advance()
            await node.settle(claim_for=())
        client = ChainClient(chain.devchain.provider(), chain.deployment, chain.payers[1].owner.secret)
        async with make.opened(chain, tmp_path / "other.sqlite3") as other:
            claimer = Claimer(client, other.store.epochs, ManualClock(5))
            wanted = {CONTRIBUTORS[0], Address(b"\x99" * 20)}
            assert await claimer.claim_published(chain.lane, wanted, node.fetch) == ()
            chain.pass_window()
            (paid,) = await claimer.claim_published(chain.lane, wanted, node.fetch)
            assert (paid.account, paid.amount) == (CONTRIBUTORS[0], 2_000)
            assert node.balance(CONTRIBUTORS[0]) == 2_000
            assert await claimer.claim_published(chain.lane, wanted, node.fetch) == ()
            (entry,) = await other.store.epochs.journal()
            assert (entry.subject, entry.amount, entry.is_done, entry.at_ms) == (
                CONTRIBUTORS[0],
                2_000,
                True,
                5,
            )
            assert await claimer.claim_published(Address(bytes(20)), wanted, node.fetch) == ()
            node.published.clear()
            with pytest.raises(NotFound):
                await claimer.claim_published(chain.lane, CONTRIBUTORS, node.fetch)


async def test_published_data_that_was_not_committed_is_refused(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 10_000)
        chain.end_epoch(0)
        await node.settle()
        first = (await node.store.epochs.last(chain.lane)).data
        chain.end_epoch(1)
        await node.settle()
        posted = chain.client().commitments(chain.lane)
        commitment = latest_final(posted, chain.now + TERMS.window)
        assert commitment is not None
        assert commitment.epoch == 1
        assert latest_final(posted, chain.now) is None
        for data in (first, b"", json.dumps({}).encode()):
            with pytest.raises(RemoteProtocolError):
                prove(chain.worker.client, commitment, data, None)
