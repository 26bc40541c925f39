"""How far receipts have come, on a real embedded chain: as their worker and as their payer see it."""

from dataclasses import replace

from commonlore.peer.settling.receipt_progress import progress_within, read_progress
from commonlore.peer.store.ledger_rows import Role


async def test_a_receipt_is_followed_to_its_last_claim(chain, path, make):
    ada, bob = chain.payers
    client = chain.client()
    async with make.opened(chain, path) as node:

        async def seen():
            """By payer: what the worker's store and what the payer's own (without commitments) make of it."""
            stored = [one for one in await node.store.ledger.receipts() if one.role is Role.WORKER]
            here = read_progress(client, stored)
            there = read_progress(client, [replace(one, commitment=None) for one in stored])
            assert here == there
            return {one.receipt.payer: here.get(one.number) for one in stored}

        await node.serve(ada, 10_000)
        key = ada.session.address
        assert await seen() == {key: None}
        chain.end_epoch(0)
        await node.settle()
        assert await seen() == {key: "posted"}
        chain.end_epoch(1)
        await node.settle(claim_for=())
        assert await seen() == {key: "posted"}
        chain.pass_window()
        assert await seen() == {key: "claimable"}
        await node.serve(bob, 5_000, epoch=2)
        await node.settle()
        assert await seen() == {key: "claimed", bob.session.address: None}


async def test_what_was_redeemed_and_is_not_posted_yet(chain, path, make):
    (ada, _) = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 10_000)
        (stored,) = await node.store.ledger.receipts()
        chain.worker.client.bind(chain.worker.binding)
        ada.client.bind(ada.binding)
        chain.worker.client.redeem([stored.voucher])
        assert read_progress(chain.client(), [stored]) == {stored.number: "redeemed"}


async def test_a_chain_that_is_away_tells_nothing(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 10_000)
        stored = await node.store.ledger.receipts()
        client = chain.client()
        chain.down = True
        assert await progress_within(3.0, client, stored) == {}
        assert await progress_within(3.0, None, stored) == {}
