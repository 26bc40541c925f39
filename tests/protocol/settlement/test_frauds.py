"""Every planted fraud is found, by its name; nothing is found in honest epochs, whatever they hold."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.contracts.staging.cast import MANIFEST as STAGED
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.lineage import Ancestor, Lineage
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode, record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, cid_of, digest_of
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.records import Receipt, Weight
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.settlement.commitments import build_epoch
from commonlore.protocol.settlement.dishonest import PLANTS, Scene, plant
from commonlore.protocol.settlement.epoch_leaves import pool_of
from commonlore.protocol.settlement.fraud_earnings import find_earnings_frauds
from commonlore.protocol.settlement.fraud_overlaps import ChannelHistory
from commonlore.protocol.settlement.fraud_receipts import find_receipt_frauds
from commonlore.protocol.settlement.frauds import FraudKind, LaneFacts, Posted, RawManifest, RegisteredAdapter
from commonlore.protocol.settlement.published import published_trees
from commonlore.protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from commonlore.protocol.signing.eip712 import Domain, sign
from commonlore.protocol.signing.keys import AccountKey

DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
LANE, PAYER = (AccountKey.from_secret(bytes([n]) * 32) for n in (7, 2))
PLATFORM, OWNER, AUTHOR, WORK_POOL, ALICE, BOB = (Address(bytes([n]) * 20) for n in range(1, 7))
MANIFEST = replace(STAGED, author_payee=AUTHOR)
ADAPTER = record_cid(MANIFEST)
POOL = pool_of(AUTHOR, digest_of(ADAPTER))
LINEAGE = Lineage((Ancestor(POOL, (b"datanet",), ()),), {b"datanet": (ALICE, BOB)})
REGISTERED = RegisteredAdapter(DEFAULT_SPLIT, 0, LINEAGE)
FACTS = LaneFacts(
    DOMAIN, LANE.address, PLATFORM, WORK_POOL, frozenset({LANE.address, OWNER}), 1_000, 100,
    adapters={POOL: REGISTERED}, manifests={digest_of(ADAPTER): RawManifest(encode(MANIFEST))},
)  # fmt: skip


class Lane:
    """An honest lane: serves, and posts what it served."""

    def __init__(self):
        self.voucher, self.epochs, self.earnings, self.served = None, [], {}, []

    def serve(self, price, by_adapter=True):
        split = DEFAULT_SPLIT if by_adapter else BASE_SPLIT
        receipt = Receipt(
            request_hash=bytes(32), payer=PAYER.address, lane=LANE.address,
            seq=1 + (self.voucher.voucher.seq if self.voucher else 0), epoch=len(self.epochs), step=0,
            artefact=cid_of(b"artefact"), adapters=(AdapterWeight(ADAPTER, PPM),) if by_adapter else (),
            prompt_tokens=1, output_tokens=1, output_root=bytes(32), price=price,
            shares=compute_shares(price, split), details=bytes(32),
        )  # fmt: skip
        self.voucher = make_voucher(DOMAIN, PAYER, receipt, self.voucher)
        author = AUTHOR if by_adapter else None
        roles = RolePayees(PLATFORM, OWNER, author, WORK_POOL)
        credits = compute_credits(
            receipt, roles, [Weight(ALICE, 300_000), Weight(BOB, 700_000)][: 2 * by_adapter]
        )
        paid = (self.voucher.voucher, self.voucher.signature)
        signed = sign(DOMAIN, LANE, receipt)
        self.served.append(SettledReceipt(receipt, signed, *paid, (AUTHOR,) * by_adapter, credits))

    def post(self):
        credits = pool_credits(self.epochs[-1].receipts) if self.epochs else ()
        self.earnings = fold_earnings(self.earnings, credits)
        self.epochs.append(build_epoch(DOMAIN, len(self.epochs), self.served, self.earnings, credits))
        self.served = []


@pytest.fixture(scope="module")
def lane():
    """Three epochs; the last has receipts, credits and earnings."""
    made = Lane()
    for prices in ((900, 500), (700, 800, 800), (600, 400, 400)):
        for price in prices:
            made.serve(price)
        made.serve(300, by_adapter=False)
        made.post()
    return made


def found(epochs, facts=FACTS):
    """What is found in the last of these epochs."""
    history = ChannelHistory(lambda epoch: epochs[epoch])
    overlaps = []
    for number, current in enumerate(epochs):
        posted = Posted(facts, epochs[number - 1] if number else None, current)
        overlaps = list(history.take(posted))
    return [*find_receipt_frauds(posted), *find_earnings_frauds(posted), *overlaps]


def planted(lane, kind):
    scene = Scene(DOMAIN, PAYER, _data(lane.epochs[-1]))
    data = plant(kind, scene)
    trees = published_trees(DOMAIN, data, encode(data))
    honest = lane.epochs[-1].commitment
    sums = ("receipt_sum", "cumulative_total", "receipt_count")
    assert all(getattr(trees.commitment, name) == getattr(honest, name) for name in sums)
    return found([*lane.epochs[:-1], trees])


def _data(trees):
    from commonlore.protocol.encoding.codec import decode
    from commonlore.protocol.settlement.commitments import EpochData

    return decode(EpochData, trees.data)


@pytest.mark.parametrize("kind", list(FraudKind))
def test_a_planted_fraud_is_found(lane, kind):
    kinds = {fraud.kind for fraud in planted(lane, kind)}
    assert kind in kinds
    beside = {
        FraudKind.DOUBLE_LINE: {FraudKind.BAD_LINE},
        FraudKind.MISSING_CREDIT: {FraudKind.POOL_SUM},
        FraudKind.DECREASE: {FraudKind.WRONG_CUMULATIVE},
        FraudKind.DROPPED: {FraudKind.WRONG_CUMULATIVE},
        FraudKind.STRAY_LINE: {FraudKind.BAD_LINE},
    }
    assert kinds - {kind} <= beside.get(kind, set()), "and nothing that it does not bring with it"


def test_there_is_a_plant_of_each_kind():
    assert set(PLANTS) == set(FraudKind)


@given(st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=5), max_size=4))
def test_honest_epochs_are_never_accused(epochs):
    lane = Lane()
    for number, prices in enumerate(epochs):
        for price, by_adapter in prices:
            lane.serve(price, by_adapter)
        lane.post()
        assert found(lane.epochs[: number + 1]) == []


def test_money_of_an_earlier_epoch_is_not_spent_again(lane):
    """The receipt is new, the money behind its voucher paid another two epochs ago."""
    scene = Scene(DOMAIN, PAYER, _data(lane.epochs[-1]))
    settled = scene.data.receipts[0]
    data = scene.first(scene.resigned(settled, settled.receipt.price))
    (fraud,) = found([*lane.epochs[:-1], published_trees(DOMAIN, data, encode(data))])
    assert (fraud.kind, fraud.arguments[2].epoch) == (FraudKind.OVERLAP, 0)


def test_an_unregistered_adapter_is_judged_only_where_the_registry_is_required(lane):
    facts = replace(FACTS, adapters={})
    assert found(lane.epochs, facts) == []
    kinds = {fraud.kind for fraud in found(lane.epochs, replace(facts, is_registry_required=True))}
    assert kinds == {FraudKind.BAD_SPLIT}


def test_what_was_registered_later_binds_nobody(lane):
    late = replace(REGISTERED, split=BASE_SPLIT, registered_at=1_200, lineage=Lineage(()))
    assert found(lane.epochs[:3], replace(FACTS, adapters={POOL: late})) == []
    kinds = {
        fraud.kind
        for fraud in found(
            lane.epochs[:3], replace(FACTS, adapters={POOL: replace(late, registered_at=1_099)})
        )
    }
    assert kinds == {FraudKind.BAD_SPLIT, FraudKind.OUTSIDE_LINEAGE}, (
        "who served in epoch 1 could have looked"
    )


def test_money_that_was_never_redeemed_is_noticed(lane):
    facts = replace(FACTS, redeemed={PAYER.address: 10_000})
    assert found(lane.epochs, facts) == []
    redeemed = lane.voucher.voucher.cumulative - 1
    (fraud,) = found(lane.epochs, replace(FACTS, redeemed={PAYER.address: redeemed}))
    assert (fraud.kind, "never redeemed" in fraud.said) == (FraudKind.BAD_RECEIPT, True)
