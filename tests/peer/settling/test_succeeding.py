"""A lane whose node is gone: a bonded poster posts what it owed, and the lane's node goes on from there."""

import pytest

from commonlore.contracts.client.bonding import BondRole
from commonlore.peer.clock import ManualClock
from commonlore.peer.settling.claiming import Claimer
from commonlore.peer.store.epochs import EpochState
from commonlore.peer.watchtower.demands import WatchReport
from commonlore.peer.watchtower.succeeding import Successor
from commonlore.peer.watchtower.watching import Watchtower

BOND = 1_000


@pytest.fixture
def stranger(chain, make):
    """Somebody with gas and just the tokens of its bond."""
    party = make.Party(chain, "stranger")
    chain.devchain.fund(party.owner.address, BOND)
    return party


async def round_of(node, stranger):
    chain = node.chain
    report = WatchReport(chain.client().chain_time())
    await Successor(stranger.client, node.fetch, node.publish, BOND).look(report)
    return report


async def claim_all(node, lane):
    await Claimer(node.chain.client(), node.store.epochs, ManualClock(0)).claim_published(
        lane, [*node.balances], node.fetch
    )


async def test_a_lane_that_owes_is_taken_over_and_taken_back(chain, path, make, stranger):
    ada, _ = chain.payers
    account = stranger.owner.address
    earned = make.earned_by(chain, 10_000)
    earned[account] = earned.pop(chain.worker.owner.address)
    async with make.opened(chain, path) as node:
        await node.serve(ada, 10_000)
        chain.end_epoch(0)
        await node.settle()
        assert (await round_of(node, stranger)).acts == []
        assert stranger.client.bonds.standing(account, BondRole.POSTER) == BOND
        chain.now += chain.deployment.patience
        (act,) = (await round_of(node, stranger)).acts
        assert act.what == "succeed"
        assert (await round_of(node, stranger)).acts == [], "nothing is owed any more"
        report = await Watchtower(ada.client, node.fetch).look()
        assert (report.judged, report.acts) == (1, []), "what a successor posts is right"
        chain.pass_window()
        node.balances = earned
        await claim_all(node, chain.lane)
        assert {who: node.balance(who) for who in earned} == earned
        # the lane's own node comes back
        await node.serve(ada, 500, epoch=act.epoch)
        report = await node.settle()
        assert [(c.receipt_sum, c.cumulative_total) for c in report.posted] == [(500, 10_000)]
        stored = [epoch.epoch for epoch in await node.store.epochs.all(chain.lane)]
        assert stored == [0, act.epoch, report.posted[0].epoch]
        assert chain.client().posters.of(chain.lane).has_succeeded is False


async def test_money_for_unpublished_receipts_is_said_and_left(chain, path, make, stranger):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 10_000)
        chain.end_epoch(0)
        await node.settle()
        await node.serve(ada, 77, epoch=1)
        newest = (await node.store.ledger.channels("worker"))[0].voucher
        chain.end_epoch(1)
        chain.worker.client.redeem([newest])
        chain.now += 2 * chain.deployment.patience
        report = await round_of(node, stranger)
        assert report.acts == []
        assert "nobody published" in report.waiting[0]


async def test_an_empty_store_takes_in_what_was_posted_before(chain, path, make):
    """The published data says what was committed, and what its receipts earned."""
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 100)
        chain.end_epoch(0)
        await node.settle()
        published = node.published
    async with make.opened(chain, path.with_name("fresh.sqlite3")) as fresh:
        fresh.published = published
        chain.end_epoch(1)
        report = await fresh.settle()
        first, _ = await fresh.store.epochs.all(chain.lane)
        assert (first.epoch, first.state) == (0, EpochState.FINAL)
        assert [c.cumulative_total for c in report.posted] == [100]
