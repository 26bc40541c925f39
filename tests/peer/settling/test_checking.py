"""Attributors from their bond to their pay: they make a round's seed, attest to what they were drawn for, are
paid, and bring before the arbiter whoever contradicts them. On a real embedded chain."""

from dataclasses import replace

import pytest

from commonlore.contracts.client.bonding import BondRole
from commonlore.peer.aio import open_aio
from commonlore.peer.settling.crediting import Crediting, NetworkAccounts
from commonlore.peer.store.node_store import open_store
from commonlore.peer.watchtower.attesting import ROLE
from commonlore.protocol.attribution.attestations import is_wrong, weights_digest
from commonlore.protocol.attribution.pools import TOLERANCE_PPM
from commonlore.protocol.encoding.codec import decode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, checksummed
from commonlore.protocol.receipts.records import Weight
from commonlore.protocol.settlement.commitments import EpochData
from commonlore.protocol.settlement.published import MAX_EPOCH_BYTES

from .attributors import Attributor, Lane

BOND = 1_000
ONE, TWO = (Address(bytes([0xC0 + i]) * 20) for i in range(2))


def weights(ppm):
    return (Weight(ONE, ppm), Weight(TWO, PPM - ppm))


PRIORS = tuple(
    Weight(Address(bytes([0xC0 + i]) * 20), ppm) for i, ppm in enumerate((500_000, 250_000, 250_000))
)


@pytest.fixture
def attributors(chain, make):
    """Two who are bonded, and money in the work pool."""
    made = [Attributor(make.Party(chain, name)) for name in ("one", "two")]
    for each in made:
        chain.devchain.fund(each.account, BOND + 100)
        each.party.client.bonds.bond(BondRole.ATTRIBUTOR, BOND)
    giver, pool = chain.payers[1], checksummed(chain.deployment.check_pool)
    chain.devchain.fund(giver.owner.address, 50_000)
    giver.client.send("transfer", giver.client.function("CommonloreToken", "transfer", pool, 50_000))
    return made


@pytest.fixture
def open_lane(chain, path, make, attributors):
    from contextlib import AsyncExitStack, asynccontextmanager

    @asynccontextmanager
    async def opened():
        async with AsyncExitStack() as stack:
            aio = await stack.enter_async_context(open_aio())
            node = await stack.enter_async_context(make.opened(chain, path))
            stores = [
                await stack.enter_async_context(open_store(path.with_name(f"{n}.sqlite3"), aio)) for n in "ab"
            ]
            yield Lane(node, stores, attributors, make)

    return opened


async def test_attributors_who_round_otherwise_agree_and_are_paid(open_lane, attributors, chain):
    """Neither has just the weights that were paid; both find them right, and say the same 32 bytes."""
    one, two = attributors
    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000))
        one.stated[lane.receipt] = weights(700_000 + TOLERANCE_PPM)
        two.stated[lane.receipt] = weights(700_000 - TOLERANCE_PPM)
        await lane.draw()
        assert [each.balance(chain) for each in attributors] == [100, 100], "stakes came back"
        await lane.look()
        (first, second) = lane.works()
        assert (first.attester, second.attester) == (one.account, two.account)
        assert first.verdict == second.verdict
        await lane.look()
        assert len(lane.works()) == 2, "nothing is attested twice"
        chain.now += 700
        assert await lane.look() == []
        assert [each.balance(chain) for each in attributors] == [100 + 4_500, 100 + 4_500]
        assert await lane.look() == []
        assert [each.balance(chain) for each in attributors] == [4_600, 4_600], "nor paid twice"
        assert chain.client().work_pool.case_of(lane.receipt, ROLE) is None


async def test_who_contradicts_is_brought_before_the_arbiter(open_lane, attributors, chain):
    one, two = attributors
    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000))
        one.stated[lane.receipt] = weights(700_000)
        two.stated[lane.receipt] = weights(700_000 - TOLERANCE_PPM - 1)
        await lane.draw()
        await lane.look()
        await lane.look()
        assert len({work.verdict for work in lane.works()}) == 2
        assert chain.client().work_pool.works(lane.unscored, ROLE) == (), "nobody has anything to say on it"
        assert chain.client().work_pool.case_of(lane.receipt, ROLE) is not None
        for each in attributors:
            each.stated[lane.unscored] = weights(900_000)
        await lane.look()
        assert chain.client().work_pool.works(lane.unscored, ROLE) == (), "the priors divide it by rule"
        for each in attributors:
            each.stated[lane.unscored] = PRIORS
        await lane.look()
        chain.now += 700
        refused = await lane.look()
        assert ["NotGood" in reason for reason in refused] == [True, True], "the arbiter has not ruled"
        assert [each.balance(chain) for each in attributors] == [100 + 250] * 2, "that holds up nothing else"


async def test_nobody_attests_to_credits_that_the_lanes_own_statements_do_not_divide(
    open_lane, attributors, chain
):
    """What it published is right, and it paid otherwise."""

    class Otherwise:
        """Divides as it should, and gives each of two contributors what the other is due."""

        def __init__(self, honest):
            self._honest = honest

        def __getattr__(self, name):
            return getattr(self._honest, name)

        async def divide(self, *what):
            division = await self._honest.divide(*what)
            for parts in division.credits.values():
                for number, credits in parts.items():
                    parts[number] = tuple(
                        replace(c, account={ONE: TWO, TWO: ONE}.get(c.account, c.account)) for c in credits
                    )
            return division

    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000), Otherwise(lane.node.parts().crediting))
        for each in attributors:
            each.stated[lane.receipt] = weights(700_000)
        await lane.draw()
        refused = await lane.look()
        assert ["not credited as its published statements divide" in each for each in refused] == [True, True]
        assert lane.works() == ()


async def test_pay_comes_whatever_became_of_the_bond_and_the_data_and_never_short(
    open_lane, attributors, chain
):
    one, two = attributors
    async with open_lane() as lane:
        await lane.serve(200_000, weights(700_000))
        one.stated[lane.receipt] = two.stated[lane.receipt] = weights(700_000)
        await lane.draw()
        await lane.look()
        assert len(lane.works()) == 2
        one.party.client.bonds.thaw(BondRole.ATTRIBUTOR, BOND)
        two.party.client.bonds.bond(BondRole.ATTRIBUTOR, 10)
        lane.node.published = dict.fromkeys(lane.node.published, b"garbage")
        chain.now += 700
        refused = await lane.look()
        assert ["holds 50000 of a fee of 100000" in reason for reason in refused] == [True, True]
        assert [each.balance(chain) for each in attributors] == [100, 90], "the rest would be lost"
        giver, pool = chain.payers[1], checksummed(chain.deployment.check_pool)
        chain.devchain.fund(giver.owner.address, 150_000)
        giver.client.send("transfer", giver.client.function("CommonloreToken", "transfer", pool, 150_000))
        assert await lane.look() == []
        assert [each.balance(chain) for each in attributors] == [100_100, 100_090]


async def test_garbage_of_a_stranger_keeps_no_round_from_its_seed(open_lane, attributors, chain):
    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000))
        await lane.draw()
        lane.node.published = dict.fromkeys(lane.node.published, b"garbage")
        assert all("epoch 0 of lane" in reason for reason in await lane.look())


async def test_who_thaws_its_bond_still_shows_what_it_hid(open_lane, attributors, chain):
    one, half = attributors[0], chain.deployment.round_length // 2
    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000))
        chain.now = chain.deployment.genesis + chain.deployment.round_length
        await lane.look()
        assert one.balance(chain) == 100 - 20
        one.party.client.bonds.thaw(BondRole.ATTRIBUTOR, BOND)
        chain.now += half
        assert await lane.look() == []
        assert one.balance(chain) == 100, "its stake would have burned"


async def test_rounds_from_before_the_bond_are_nobodys_expense(open_lane, attributors, chain):
    one = attributors[0]
    async with open_lane() as lane:
        await lane.serve(9_000, weights(700_000))
        chain.now = chain.deployment.genesis + 3 * chain.deployment.round_length
        for each in attributors:
            each.party.client.bonds.bond(BondRole.ATTRIBUTOR, 1)
        assert await lane.look() == []
        assert not chain.client().beacon.state(1).is_closed
        assert one.balance(chain) == 99


def seconding(lane):
    """As a worker divides that had another score what it served."""
    accounts = NetworkAccounts(lane.chain.deployment.platform, lane.chain.deployment.work_pool)
    keys = lane.chain.worker.peer.public
    return Crediting(accounts, lane.node.store.records, lane.node.adapters, keys, seconds=True)


async def test_a_forged_vector_beside_an_honest_one_is_paid_by_nobody_and_goes_to_the_arbiter(
    open_lane, attributors, chain, make
):
    """The account of the first of the two stands for the worker, whose vector leans."""
    forger, honest = attributors
    leaning, found = weights(950_000), weights(300_000)
    async with open_lane() as lane:
        await lane.serve(9_000, leaning, seconding(lane), (honest.party.peer, found))
        epochs = [decode(EpochData, raw, MAX_EPOCH_BYTES) for raw in lane.node.published.values()]
        credits = {one.account: one.amount for epoch in epochs for one in epoch.credits}
        by_priors = make.earned_by(chain, 9_000, 500)
        assert [credits[who] for who in (ONE, TWO)] == [by_priors[who] for who in (ONE, TWO)]
        forger.stated[lane.receipt], honest.stated[lane.receipt] = leaning, found
        await lane.draw()
        await lane.look()
        await lane.look()
        assert chain.client().work_pool.case_of(lane.receipt, ROLE) is not None
        assert is_wrong(leaning, found), "whoever judges scores again, and finds this"
        chain.now += 700
        await lane.look()
        assert [each.balance(chain) for each in attributors] == [100, 100], "neither is paid before"


async def test_who_was_left_out_by_a_worker_that_forges_says_so(open_lane, attributors, chain, caplog):
    """The worker drops what the other found and attests to nothing: its word alone is paid, and seen."""
    honest = attributors[1]
    async with open_lane() as lane:
        await lane.serve(9_000, weights(950_000), seconding(lane))
        honest.stated[lane.receipt] = weights(300_000)
        await lane.draw()
        await lane.look()
        (word,) = lane.works()
        assert (word.attester, word.verdict) == (honest.account, weights_digest(weights(300_000)))
        assert "was paid by weights 650000 ppm from those found here" in caplog.text
        assert chain.client().work_pool.case_of(lane.receipt, ROLE) is None, "nobody stands by the other"
