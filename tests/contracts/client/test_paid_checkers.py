"""Those who check, from their bond to their pay, by the chain client on the embedded chain."""

import pytest

from commonlore.contracts.calling.endpoint import Rejected
from commonlore.contracts.client.bonding import BondRole
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.client.checking import attestation_tuple
from commonlore.contracts.client.drawing import by_lot
from commonlore.contracts.deploying.terms import Accounts, CheckTerms, Terms
from commonlore.contracts.embedded.devchain import Devchain, DevchainConfig, devchain_accounts
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.errors import ChainError
from commonlore.protocol.ids import cid_of, keccak256
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.records import Receipt
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.settlement.commitments import build_epoch
from commonlore.protocol.settlement.openings import open_leaf
from commonlore.protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import digest, sign
from commonlore.protocol.signing.keys import AccountKey, PeerKey, recover

GENESIS, ROUND, STAKE, BOND = 1_800_000_000, 4_000, 30, 100
CHECKS = CheckTerms(
    round_length=ROUND, beacon_stake=STAKE, odds_ppm=1_000_000, fee_bps=5_000, contest=700, minimum_bond=BOND
)
TERMS = Terms(epoch_length=1_000, window=500, grace=100, checks=CHECKS)
PRICES = (6_000, 1_400)
GOOD = keccak256(b"the weights that were found")


def account(name):
    return AccountKey.from_secret(keccak256(f"checked {name}".encode()))


class World:
    """A payer, a lane with a commitment whose receipts' pool share was claimed, and two who may check."""

    def __init__(self):
        self.now = GENESIS + 1
        accounts = Accounts(devchain_accounts().platform)
        self.devchain = Devchain(DevchainConfig(TERMS, accounts, clock=lambda: self.now))
        self.deployment = self.devchain.deployment
        self.payer, self.lane, self.one, self.two = (self.party(n) for n in ("payer", "lane", "one", "two"))
        for checker in (self.one, self.two):
            checker.bonds.bond(BondRole.ATTRIBUTOR, BOND)
        keys = (account("payer"), account("session"), PeerKey.generate(bytes(32)))
        self.payer.bind(bind(self.deployment.domain, *keys, GENESIS - 1, GENESIS + 10**8))
        self.payer.deposit(sum(PRICES))

    def party(self, name):
        self.devchain.fund(account(name).address, 100_000)
        return ChainClient(self.devchain.provider(), self.deployment, account(name).secret)

    def settled(self, price, voucher):
        """One answer of the base alone, and the voucher that pays it."""
        payer, lane = account("session"), account("lane")
        receipt = Receipt(
            bytes(32), payer.address, lane.address, 1 + (voucher.voucher.seq if voucher else 0), 0, 0,
            cid_of(b"base"), (), 1, 1, bytes(32), price, compute_shares(price, BASE_SPLIT), bytes(32),
        )  # fmt: skip
        domain, deployment = self.deployment.domain, self.deployment
        paid = make_voucher(domain, payer, receipt, voucher)
        payees = RolePayees(deployment.platform, lane.address, None, deployment.work_pool)
        credits = compute_credits(receipt, payees, [])
        signed = (receipt, sign(domain, lane, receipt), paid.voucher, paid.signature)
        return SettledReceipt(*signed, (), credits), paid

    def commit(self):
        """Redeems, posts epoch 0 and the earnings of it, and has them claimed."""
        lane, voucher, served = self.lane.address, None, []
        for price in PRICES:
            settled, voucher = self.settled(price, voucher)
            served.append(settled)
        assert self.lane.redeem([voucher]).amount == sum(PRICES)
        trees = build_epoch(self.deployment.domain, 0, served, {}, ())
        self.now = self.deployment.postable_at(0)
        self.lane.post_epoch(lane, trees.commitment)
        credits = pool_credits(trees.receipts)
        after = build_epoch(self.deployment.domain, 1, (), fold_earnings({}, credits), credits)
        self.now = self.deployment.postable_at(1)
        self.lane.post_epoch(lane, after.commitment)
        self.now += TERMS.window
        self.lane.claim(lane, after.commitment, after.claims())
        return trees

    def draw(self, number):
        """The round's seed, made by both who check."""
        self.now = self.deployment.genesis + number * ROUND
        secrets = {self.one: (keccak256(b"a"), keccak256(b"b")), self.two: (keccak256(b"c"), keccak256(b"d"))}
        for client, (value, salt) in secrets.items():
            client.beacon.commit(number, value, salt)
        self.now += ROUND // 2
        for client, (value, salt) in secrets.items():
            client.beacon.reveal(number, value, salt)
        self.now += ROUND // 2
        self.lane.beacon.close(number)
        for _ in range(2):
            self.devchain.rpc.handle("evm_mine", [])
        self.lane.beacon.settle(number)


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.devchain.close()


def test_those_who_are_drawn_attest_and_are_paid_out_of_the_pools_share(world):
    one, two, lane = world.one, world.two, world.lane.address
    with pytest.raises(ChainError, match="posted no epoch"):
        one.work_pool.round_of(lane, 0)
    trees = world.commit()
    share = one.balance(world.deployment.check_pool)
    assert share == sum(PRICES) // 10
    index = next(i for i, settled in enumerate(trees.receipts) if settled.receipt.price == PRICES[1])
    leaf = open_leaf(world.deployment.domain, trees, index)
    subject, fee, number = leaf.receipt_digest, leaf.price // 2, one.work_pool.round_of(lane, 0)
    assert not one.work_pool.is_drawn(BondRole.ATTRIBUTOR, subject, number), "there is no seed yet"
    assert one.beacon.seed(number) is None
    world.draw(number)
    assert one.beacon.seed(number) is not None
    assert one.balance(one.address) == two.balance(two.address) == 100_000 - BOND, "stakes came back"
    assert one.work_pool.is_drawn(BondRole.ATTRIBUTOR, subject, number)
    assert not one.work_pool.is_drawn(BondRole.AUDITOR, subject, number)
    seed, accounts = one.beacon.seed(number), (one.address, two.address)
    order = one.draws.order(BondRole.ATTRIBUTOR, subject, number)
    assert order == one.draws.drawn(BondRole.ATTRIBUTOR, subject, number), "the odds are certain here"
    assert order == by_lot(seed, subject, BondRole.ATTRIBUTOR, reversed(accounts))
    assert set(order) == set(accounts)
    assert one.draws.order(BondRole.AUDITOR, subject, number) == ()

    for name, client in (("one", one), ("two", two)):
        word = client.work_pool.attestation(BondRole.ATTRIBUTOR, subject, GOOD, number)
        signature = sign(world.deployment.domain, account(name), word)
        client.work_pool.attest(lane, trees.commitment, leaf, word, signature)
    works = one.work_pool.works(subject, BondRole.ATTRIBUTOR)
    assert [(w.attester, w.verdict, w.fee, w.is_paid) for w in works] == [
        (client.address, GOOD, fee, False) for client in (one, two)
    ]
    with pytest.raises(Rejected, match="NotDue"):
        one.work_pool.collect(subject, BondRole.ATTRIBUTOR, 0)
    world.now = one.work_pool.due_at(works)
    paid = [one.work_pool.collect(subject, BondRole.ATTRIBUTOR, 0)]
    with pytest.raises(Rejected, match="PoolTooPoor"):
        one.work_pool.collect(subject, BondRole.ATTRIBUTOR, 1)
    paid.append(two.work_pool.collect(subject, BondRole.ATTRIBUTOR, 1))
    assert paid == [fee, share - fee], "the second gets what is left"
    assert 0 < paid[1] < fee
    assert [client.balance(client.address) - 100_000 + BOND for client in (one, two)] == paid
    assert all(work.is_paid for work in one.work_pool.works(subject, BondRole.ATTRIBUTOR))
    with pytest.raises(Rejected, match="AlreadyPaid"):
        two.work_pool.collect(subject, BondRole.ATTRIBUTOR, 1)


def test_who_is_bonded_is_read_again_only_where_it_changed(world):
    one, two = world.one, world.two
    attributors = {each.account: each for each in one.bonds.bonded(BondRole.ATTRIBUTOR)}
    assert {each.standing for each in attributors.values()} == {BOND}
    assert set(attributors) == {one.address, two.address}
    before, both = one.beacon.head(), {one.address, two.address}
    assert one.bonds.bonded_by(BondRole.ATTRIBUTOR, before) == (both, both)
    assert one.bonds.bonded_by(BondRole.ATTRIBUTOR, world.deployment.block - 1) == (
        set(),
        set(),
    )
    assert one.bonds.bonded_by(BondRole.ATTRIBUTOR, before, BOND) == (both, both)
    assert one.bonds.bonded_by(BondRole.ATTRIBUTOR, before, BOND + 1) == (set(), set()), (
        "too little counts not"
    )
    two.bonds.thaw(BondRole.ATTRIBUTOR, 1)
    assert one.beacon.superseded_at(before) == one.chain_time()
    assert two.bonds.bonded_by(BondRole.ATTRIBUTOR, before) == (both, {one.address}), "it changed since"
    one.bonds.bond(BondRole.AUDITOR, BOND)
    changed = {each.account: each for each in one.bonds.bonded(BondRole.ATTRIBUTOR)}
    assert changed[one.address] is attributors[one.address]
    assert changed[two.address].standing == BOND - 1
    assert [each.account for each in one.bonds.bonded(BondRole.AUDITOR)] == [one.address]
    number = one.beacon.round_at(world.now) + 1
    assert [each.account for each in one.draws.candidates(BondRole.ATTRIBUTOR, number)] == [one.address]
    assert one.draws.candidates(BondRole.AUDITOR, number - 1) == (), "bonded after it began"
    two.bonds.thaw(BondRole.ATTRIBUTOR, 0)


def test_a_signed_word_is_what_the_arbiter_hashes(world):
    word = world.one.work_pool.attestation(BondRole.ATTRIBUTOR, keccak256(b"receipt"), GOOD, 3)
    hashed = world.one.read("Arbiter", "attestationDigest", attestation_tuple(word))
    assert bytes(hashed) == digest(world.deployment.domain, word)
    signature = sign(world.deployment.domain, account("one"), word)
    assert recover(bytes(hashed), signature) == world.one.address
