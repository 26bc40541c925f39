"""The whole way on anvil, another chain's software, with its clock moved: deposit, redeem, post, claim, and a
fraud that is proved."""

import pytest

from commonlore.contracts.staging.cast import LANE, PAYER, key_of
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.ids import checksummed, cid_of
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.records import Credit, Receipt, SignedVoucher
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.settlement.commitments import build_epoch
from commonlore.protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import sign
from commonlore.protocol.signing.keys import PeerKey

pytestmark = pytest.mark.npm


def settled(domain, epoch, price, previous):
    """A receipt of the epoch by the base model, whose whole price is the worker's but for two shares."""
    shares = compute_shares(price, BASE_SPLIT)
    receipt = Receipt(
        bytes(32), PAYER.address, LANE.address, 1 + (previous.voucher.seq if previous else 0), epoch, 0,
        cid_of(b"artefact"), (), 1, 1, bytes(32), price, shares, bytes(32),
    )  # fmt: skip
    voucher = make_voucher(domain, PAYER, receipt, previous)
    amounts = (("platform", key_of("platform")), ("worker", LANE), ("work_pool", key_of("pool")))
    credits = tuple(Credit(key.address, role, getattr(shares, role)) for role, key in amounts)
    signed = sign(domain, LANE, receipt)
    return SettledReceipt(receipt, signed, voucher.voucher, voucher.signature, (), credits)


def test_from_a_deposit_to_claims_and_to_a_killed_lie(anvil):
    deployment, domain = anvil.deployment, anvil.deployment.domain
    owner = key_of("client")
    client, lane = anvil.client(owner), anvil.client(LANE)
    anvil.mint(owner.address, 10_000)
    anvil.mint(LANE.address, 100)
    client.deposit(5_000)
    now = client.chain_time()
    client.bind(bind(domain, owner, PAYER, PeerKey.generate(bytes(32)), now - 10, now + 10**7))
    token = checksummed(deployment.bonds)
    lane.send("approve", lane.function("CommonloreToken", "approve", token, 100))
    lane.send("bond", lane.function("Bonds", "bond", 1, 100))

    epoch = client.epoch_at(now)
    first = settled(domain, epoch, 900, None)
    assert lane.redeem([SignedVoucher(first.voucher, first.voucher_signature)]).amount == 900
    anvil.travel(1_000)
    made = build_epoch(domain, epoch, [first], {}, ())
    lane.post_epoch(LANE.address, made.commitment)

    credits = pool_credits([first])
    later = client.epoch_at(client.chain_time())
    earned = build_epoch(domain, later, [], fold_earnings({}, credits), credits)
    anvil.travel(1_000)
    lane.post_epoch(LANE.address, earned.commitment)
    anvil.travel(500)
    paid = client.claim(LANE.address, earned.commitment, earned.claims())
    assert paid.amount == 900
    assert client.balance(key_of("platform").address) == 45

    last = client.epoch_at(client.chain_time())
    second = settled(domain, last, 700, SignedVoucher(first.voucher, first.voucher_signature))
    lane.redeem([SignedVoucher(second.voucher, second.voucher_signature)])
    anvil.travel(1_000)
    lie = dict(fold_earnings({}, credits))
    thief, platform_account = key_of("thief").address, key_of("platform").address
    lie[thief] = lie.pop(platform_account)
    wrong = build_epoch(domain, last, [second], lie, ())
    lane.post_epoch(LANE.address, wrong.commitment)
    from commonlore.contracts.client.proving import abi_argument
    from commonlore.protocol.settlement.openings import gap_of, open_earning

    dropped = open_earning(earned, earned.accounts.index(platform_account))
    gap = gap_of(wrong.accounts, platform_account, lambda index: open_earning(wrong, index))
    arguments = (earned.commitment, dropped, wrong.commitment, gap)
    call = [abi_argument(argument) for argument in arguments]
    watcher = anvil.client(key_of("watcher"))
    proof = watcher.function("EarningsProofs", "proveDropped", checksummed(LANE.address), *call)
    watcher.send("prove", proof)
    assert watcher.balance(key_of("watcher").address) == 50
    assert watcher.lane_state(LANE.address).next_epoch == later + 1
