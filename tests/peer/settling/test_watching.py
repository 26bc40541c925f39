"""A watchtower on a real embedded chain: every planted fraud is challenged by it, nothing honest ever is."""

import re
import shutil
from dataclasses import replace
from itertools import combinations

import pytest

from commonlore.contracts.calling.records import AdapterRegistration, DatanetEntry
from commonlore.contracts.client.bonding import BondRole
from commonlore.peer.store.ledger_rows import Role
from commonlore.peer.watchtower.watching import Watchtower
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, encode, record_cid
from commonlore.protocol.encoding.merkle import MerkleSumTree
from commonlore.protocol.errors import NotFound, Unreachable
from commonlore.protocol.ids import Address, checksummed, digest_of
from commonlore.protocol.receipts.records import Shares, Weight
from commonlore.protocol.settlement.commitments import EpochData, honest_lines
from commonlore.protocol.settlement.dishonest import PLANTS, Scene
from commonlore.protocol.settlement.frauds import FraudKind
from commonlore.protocol.settlement.published import published_trees
from commonlore.protocol.settlement.settled import receipt_leaf

BOND = 10_000
CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(2))


@pytest.fixture
def watcher(chain, make):
    """Somebody with gas, and no tokens."""
    party = make.Party(chain, "watcher")
    chain.devchain.fund(party.owner.address, 0)
    return party


def tower(node, watcher, fetch=None):
    return Watchtower(watcher.client, fetch or node.fetch)


def bond(chain):
    """What the worker has to lose."""
    chain.devchain.fund(chain.worker.owner.address, BOND)
    chain.worker.client.bonds.bond(BondRole.POSTER, BOND)


def register(chain, make, split=DEFAULT_SPLIT):
    """The adapter and its Datanet, with a split that may be another than its receipts'."""
    registry, manifest, datanet = chain.worker.client.registry, make.MANIFEST, make.DATANET
    registry.register_base(manifest.base)
    entry = DatanetEntry(digest_of(manifest.datanets[0]), datanet.contributors_root, bytes(32))
    record = registry.register_datanet(datanet.name, 1, entry)
    made = AdapterRegistration(make.ADAPTER, manifest.base, (record,), (), split, manifest.author_payee)
    registry.register_adapter(made, registry.sign_adapter(made, make.AUTHOR_KEY))


async def serve(node, epoch):
    ada, bob = node.chain.payers
    for payer, price in ((ada, 9_000), (ada, 5_000), (ada, 5_000), (bob, 7_000)):
        await node.serve(payer, price, epoch)
    await node.serve(bob, 3_000, epoch, adapter=False)


async def two_epochs(node):
    """Epochs 0 and 1 posted, receipts of 2 served, and time to post them."""
    for epoch in range(2):
        await serve(node, epoch)
        node.chain.end_epoch(epoch)
        await node.settle()
    await serve(node, 2)
    node.chain.end_epoch(2)


async def settle_dishonestly(node, change, client):
    """Post the next epoch with other data than the honest, and publish what is committed."""
    domain, ada = node.chain.deployment.domain, node.chain.payers[0]
    settler = node.settler(client=client, claim_for=())
    build = settler._posting._build

    def planted(*arguments):
        scene = Scene(domain, ada.session, decode(EpochData, build(*arguments).data, 1 << 20))
        data = change(scene)
        return published_trees(domain, data, encode(data))

    settler._posting._build = planted
    (commitment,) = (await settler.settle_once()).posted
    return commitment


async def test_every_planted_fraud_is_challenged(chain, path, make, watcher):
    register(chain, make)
    bond(chain)
    chain.now += chain.deployment.epoch_length  # what is registered in an epoch binds those after it
    async with make.opened(chain, path) as node:
        await two_epochs(node)
        client = chain.client()  # one for all: each new one reads the whole chain
        client.redeem([channel.voucher for channel in await node.store.ledger.channels(Role.WORKER)])
    for kind in PLANTS:
        saved, now = chain.devchain.rpc.handle("evm_snapshot", []), chain.now
        copy = path.with_name(f"{kind}.sqlite3")
        shutil.copy(path, copy)
        async with make.opened(chain, copy) as lying:
            lying.published = node.published
            commitment = await settle_dishonestly(lying, PLANTS[kind], client)
            watchtower = tower(lying, watcher)
            report = await watchtower.look()
            assert report.judged == 1, kind
            challenged = [(act.what, act.epoch) for act in report.acts]
            assert challenged == [(kind, commitment.epoch)], (kind, report.waiting)
            standing = [posted.commitment.epoch for posted in client.commitments(chain.lane)]
            assert standing == [0, 1], kind
            assert client.balance(watcher.owner.address) == BOND // 2
            if kind == FraudKind.BAD_RECEIPT:
                again = await watchtower.look()
                assert (again.judged, again.acts) == (0, [])
        chain.devchain.rpc.handle("evm_revert", [saved])
        chain.now = now


async def test_honest_lanes_are_left_alone(chain, path, make, watcher):
    register(chain, make)
    async with make.opened(chain, path) as node:
        watchtower = tower(node, watcher)
        for epoch in range(3):
            await serve(node, epoch)
            await node.serve(chain.payers[0], 800 + epoch, epoch, pay=False)
            chain.end_epoch(epoch)
            await node.settle()
            report = await watchtower.look()
            assert (report.judged, report.acts, report.waiting, report.doubts) == (1, [], [], [])
        chain.pass_window()
        await node.settle()
        last = await tower(node, watcher).look()
        assert (last.acts, last.doubts) == ([], [])


def exchanged(scene):
    """Two contributors of the pool have each other's credits: each sum and lineage is right."""
    data = scene.data
    given = [credit for credit in data.credits if credit.role == 4]
    one, two = next((a, b) for a, b in combinations(given, 2) if a.pool == b.pool and a.amount != b.amount)
    apart = {one.account: two.amount - one.amount, two.account: one.amount - two.amount}
    credits = tuple(
        replace(c, amount=c.amount + apart[c.account]) if c in (one, two) else c for c in data.credits
    )
    earnings = tuple(replace(e, cumulative=e.cumulative + apart.get(e.account, 0)) for e in data.earnings)
    return replace(data, credits=credits, earnings=earnings)


def steered(scene):
    """The lane names another beacon than its block: it chose which receipts are drawn."""
    return replace(scene.data, beacon=bytes(32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (exchanged, r"has \d+ and is due \d+"),
        (steered, "by another beacon"),
        (lambda scene: replace(scene.data, statements=(b"\x80",)), "divides nothing"),
    ],
)
async def test_credits_that_do_not_follow_from_what_is_published_are_told(
    chain, path, make, watcher, change, said
):
    """No contract knows a statement: the chain takes it, and whoever watches hears of it."""
    register(chain, make)
    async with make.opened(chain, path) as node:
        paid = await node.serve(chain.payers[0], 9_000, 0)
        weights = (Weight(CONTRIBUTORS[0], 900_000), Weight(CONTRIBUTORS[1], 100_000))
        await node.store.records.put_statement(make.stated(chain.worker.peer, paid, weights))
        chain.end_epoch(0)
        await node.settle()
        chain.end_epoch(1)
        await settle_dishonestly(node, change, chain.client())
        report = await tower(node, watcher).look()
    assert (report.acts, report.waiting) == ([], [])
    (doubt,) = report.doubts
    assert re.search(said, doubt), doubt


async def test_an_adapter_that_nobody_else_has_hides_no_other_pool(chain, path, make, watcher):
    """One receipt by it, which a lane can pay itself, and nobody could say what all others lost."""
    register(chain, make)
    hidden = replace(make.MANIFEST, name="hidden")
    unknown = record_cid(hidden)
    async with make.opened(chain, path) as node:
        node.adapters.known[unknown] = hidden
        paid = await node.serve(chain.payers[0], 9_000, 0)
        await node.serve(chain.payers[0], 5_000, 0, adapter=unknown)
        weights = (Weight(CONTRIBUTORS[0], 900_000), Weight(CONTRIBUTORS[1], 100_000))
        await node.store.records.put_statement(make.stated(chain.worker.peer, paid, weights))
        chain.end_epoch(0)
        await node.settle()
        chain.end_epoch(1)
        await settle_dishonestly(node, exchanged, chain.client())
        chain.now += chain.deployment.window // 2  # manifests are waited for, as long as data is
        report = await tower(node, watcher).look()
    assert any(re.search(r"has \d+ and is due \d+", doubt) for doubt in report.doubts), report
    assert any(f"{unknown} share is not judged" in waiting for waiting in report.waiting), report


async def test_a_split_other_than_the_registered_one_is_challenged(chain, path, make, watcher):
    """Nobody lied in the data: the receipts themselves are divided otherwise than the adapter is
    registered."""
    register(chain, make, BASE_SPLIT)
    chain.now += chain.deployment.epoch_length
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 5_000, 1)
        chain.end_epoch(1)
        await node.settle()
        (act,) = (await tower(node, watcher).look()).acts
        assert act.what == FraudKind.BAD_SPLIT


async def test_withheld_data_is_demanded_and_taken_back(chain, path, make, watcher):
    async def fetch(lane, cid):
        raise NotFound(f"nobody has {cid}")

    bond(chain)
    async with make.opened(chain, path) as node:
        await serve(node, 0)
        chain.end_epoch(0)
        await node.settle()
        watchtower = tower(node, watcher, fetch)
        report = await watchtower.look()
        assert (report.acts, len(report.waiting)) == ([], 1), "publishers get some time"
        chain.now += chain.deployment.window // 4
        (act,) = (await watchtower.look()).acts
        assert act.what == "demand"
        assert (await watchtower.look()).acts == []
        chain.now += chain.deployment.answer
        (act,) = (await watchtower.look()).acts
        assert act.what == "expire"
        assert chain.client().commitments(chain.lane) == ()
        assert chain.client().balance(watcher.owner.address) == BOND // 2
        (posted,) = (await node.settle()).posted
        assert posted.epoch == 0, "an honest lane posts it again"


def _with_a_line_too_small(scene):
    """A unit of the first line vanishes: what the lines of a receipt whose part is left out look like."""
    first, *rest = honest_lines(scene.data)
    return replace(scene.data, lines=(replace(first, price=first.price - 1), *rest))


async def test_lines_that_nobody_can_show_are_demanded_though_they_are_published(chain, path, make, watcher):
    bond(chain)
    async with make.opened(chain, path) as node:
        await serve(node, 0)
        chain.end_epoch(0)
        await settle_dishonestly(node, _with_a_line_too_small, chain.client())
        watchtower = tower(node, watcher)
        (act,) = (await watchtower.look()).acts
        assert (act.what, "of the lines" in act.said) == ("demand", True)
        assert (await watchtower.look()).acts == [], "it is pending"
        chain.now += chain.deployment.answer
        (act,) = (await watchtower.look()).acts
        assert act.what == "expire"
        assert chain.client().commitments(chain.lane) == ()
        assert chain.client().balance(watcher.owner.address) == BOND // 2


async def test_a_demand_is_answered_by_the_lane(chain, path, make, watcher):
    """Each leaf that is demanded is shown with the lane's next round; then more are demanded, up to a
    limit."""

    async def fetch(lane, cid):
        raise Unreachable("no peer answers")

    async with make.opened(chain, path) as node:
        await two_epochs(node)
        settler = node.settler()
        await settler.settle_once()
        watchtower = tower(node, watcher, fetch)
        for demanded in (1, 2, 0):
            chain.now += chain.deployment.window // 4
            acts = [act.what for act in (await watchtower.look()).acts if act.epoch == 2]
            assert acts == ["demand"] * demanded
            await settler.settle_once()
            assert chain.client().demands.open() == ()
        assert len(chain.client().commitments(chain.lane)) == 3


async def test_a_lane_that_cannot_be_read_keeps_no_other_waiting(chain, path, make, watcher):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        await node.settle()
        node.published = dict.fromkeys(node.published, b"something else")
        report = await tower(node, watcher).look()
        assert (report.lanes, report.judged) == (1, 0)
        assert checksummed(chain.lane) in report.waiting[0]
        assert (await node.store.ledger.channels(Role.WORKER))[0].cumulative == 100


async def test_receipts_are_judged_where_the_rest_makes_no_trees(chain, path, make, watcher):
    """Shares that add up to more than any number of the chain: no lines can be made of them, nor need be."""
    huge = Shares(*5 * (2**128 - 1,))
    async with make.opened(chain, path) as node:
        await two_epochs(node)
        settler = node.settler()
        build = settler._posting._build
        domain, ada = chain.deployment.domain, chain.payers[0]

        def planted(*arguments):
            honest = build(*arguments)
            scene = Scene(domain, ada.session, decode(EpochData, honest.data, 1 << 20))
            settled = next(r for r in scene.data.receipts if r.receipt.payer == ada.session.address)
            data = scene.first(scene.resigned(settled, settled.voucher.cumulative, shares=huge))
            tree = MerkleSumTree(receipt_leaf(domain, each) for each in data.receipts)
            raw = encode(data)
            changed = replace(honest.commitment, receipt_root=tree.root, data_hash=hash_of(raw))
            return replace(honest, commitment=changed, data=raw)

        settler._posting._build = planted
        await settler.settle_once()
        (act,) = (await tower(node, watcher).look()).acts
        assert act.what == FraudKind.BAD_RECEIPT


async def test_a_defect_in_judging_one_lane_stops_no_round(chain, path, make, watcher, monkeypatch, caplog):
    def broken(posted):
        raise ValueError("a defect")

    monkeypatch.setattr("commonlore.peer.watchtower.watching.find_receipt_frauds", broken)
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        await node.settle()
        report = await tower(node, watcher).look()
        assert "cannot be judged" in report.waiting[0]
    assert "a defect" in caplog.text


def hash_of(raw):
    return digest_of(describe_blob([raw])[0])
