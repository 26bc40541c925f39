"""What the Escrow refuses, on revm: whose money, whose keys, and for how long."""

from commonlore.contracts.calling.tuples import voucher_tuple
from commonlore.contracts.staging.cast import CLIENT, FOREVER, PAYER, TERMS, WATCHER, key_of
from commonlore.protocol.ids import checksummed
from commonlore.protocol.signing.bindings import PeerBinding
from commonlore.protocol.signing.eip712 import sign

THAW = TERMS.thaw_period
OWNER, KEY = CLIENT.address, checksummed(PAYER.address)


def refuse(stage, sender, name, *arguments):
    return stage.network.refusal(sender, "Escrow", name, *arguments)


def redeem(stage, sender=None):
    return refuse(stage, sender or stage.lane, "redeemMany", *stage.voucher_call())


def test_money_leaves_after_its_notice(stage):
    held = stage.network.tokens(OWNER)
    assert refuse(stage, WATCHER, "thaw", 1) == "ThawExceedsFund"
    stage.call(OWNER, "Escrow", "thaw", 500)
    stage.network.wait(THAW - 1)
    assert refuse(stage, OWNER, "withdraw") == "StillThawing"
    stage.network.wait(1)
    stage.call(OWNER, "Escrow", "withdraw")
    assert stage.network.tokens(OWNER) == held + 500
    assert refuse(stage, OWNER, "withdraw") == "NothingThaws"


def test_a_reservation_is_the_owners_and_comes_back_after_its_notice(stage):
    lane = checksummed(stage.lane)
    free = stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0]
    assert refuse(stage, WATCHER, "reserve", KEY, lane, 1) == "NotOwner"
    assert refuse(stage, OWNER, "reserve", KEY, lane, 0) == "ZeroAmount"
    assert refuse(stage, OWNER, "reserve", KEY, lane, free + 1) == "InsufficientBalance"
    stage.call(OWNER, "Escrow", "reserve", KEY, lane, 700)
    assert refuse(stage, WATCHER, "thawReservation", KEY, lane, 1) == "NotOwner"
    assert refuse(stage, OWNER, "thawReservation", KEY, lane, 701) == "ThawExceedsFund"
    stage.call(OWNER, "Escrow", "thawReservation", KEY, lane, 300)
    assert refuse(stage, OWNER, "releaseReservation", KEY, lane) == "StillThawing"
    stage.network.wait(THAW)
    assert refuse(stage, WATCHER, "releaseReservation", KEY, lane) == "NotOwner"
    stage.call(OWNER, "Escrow", "releaseReservation", KEY, lane)
    assert stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0] == free - 400
    assert stage.network.read("Escrow", "reservationOf", KEY, lane)[0] == 400


def test_a_voucher_takes_the_reservation_first(stage):
    lane = checksummed(stage.lane)
    free = stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0]
    stage.call(OWNER, "Escrow", "reserve", KEY, lane, 700)
    stage.serve(600)
    assert redeem(stage) is None
    assert stage.network.read("Escrow", "reservationOf", KEY, lane)[0] == 100
    stage.serve(250)
    assert redeem(stage) is None
    assert stage.network.read("Escrow", "reservationOf", KEY, lane)[0] == 0
    assert stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0] == free - 850
    assert redeem(stage) == "NothingToRedeem"


def test_what_thaws_of_a_fund_thaws_no_more_once_it_is_spent(stage):
    lane = checksummed(stage.lane)
    stage.call(OWNER, "Escrow", "reserve", KEY, lane, 700)
    stage.call(OWNER, "Escrow", "thawReservation", KEY, lane, 500)
    stage.serve(600)
    assert redeem(stage) is None
    assert stage.network.read("Escrow", "reservationOf", KEY, lane)[:2] == (100, 100)


def test_only_who_speaks_for_a_lane_redeems_and_only_its_vouchers(stage):
    stage.serve(100)
    assert redeem(stage, WATCHER) == "NotLane"
    other = checksummed(WATCHER)
    call = ([voucher_tuple(stage.voucher)], [stage.voucher.signature])
    assert refuse(stage, WATCHER, "redeemMany", other, *call) == "WrongLane"
    assert refuse(stage, stage.lane, "redeemMany", checksummed(stage.lane), [], []) == "ZeroAmount"
    assert refuse(stage, stage.lane, "redeemMany", checksummed(stage.lane), call[0], []) == "LengthMismatch"
    forged = sign(stage.domain, CLIENT, stage.voucher.voucher)
    assert (
        refuse(stage, stage.lane, "redeemMany", checksummed(stage.lane), call[0], [forged]) == "BadSignature"
    )


def test_a_voucher_of_an_epoch_to_come_is_refused(stage):
    stage.network.wait(TERMS.epoch_length)
    stage.serve(100)
    stage.network.set_time(stage.network.now - TERMS.epoch_length)
    assert redeem(stage) == "FutureEpoch"


def test_revoking_voids_no_voucher_until_the_thaw_is_over(stage):
    stage.serve(100)
    assert refuse(stage, WATCHER, "revoke", KEY) == "NotOwner"
    stage.call(OWNER, "Escrow", "revoke", KEY)
    assert refuse(stage, OWNER, "revoke", KEY) == "SessionRevoked"
    stage.network.wait(THAW)
    before = stage.network.snapshot()
    assert redeem(stage) is None
    stage.network.revert(before)
    stage.network.wait(1)
    assert redeem(stage) == "SessionExpired"


def bind(stage, owner, session, not_before, not_after, signers=None):
    binding = PeerBinding(owner.address, session.address, bytes(32), not_before, not_after)
    fields = (checksummed(owner.address), checksummed(session.address), bytes(32), not_before, not_after)
    signatures = [sign(stage.domain, key, binding) for key in signers or (owner, session)]
    return refuse(stage, WATCHER, "bind", fields, *signatures)


def test_a_key_is_bound_by_both_for_a_time_and_to_one_owner(stage):
    now, key, owner, other = stage.network.now, key_of("fresh"), key_of("owner"), key_of("other")
    assert bind(stage, owner, key, now + 1, FOREVER) == "BindingNotYetValid"
    assert bind(stage, owner, key, 0, now - 1) == "BindingExpired"
    assert bind(stage, owner, key, 0, FOREVER, (owner, other)) == "BadSignature"
    assert bind(stage, owner, key, 0, FOREVER, (other, key)) == "BadSignature"
    assert bind(stage, owner, key, 0, now + 50) is None
    assert bind(stage, owner, key, 0, now + 50) == "BindingNotLater"
    assert bind(stage, other, key, 0, FOREVER) == "SessionTaken"
    assert bind(stage, owner, key, 0, now + 90) is None
    text = checksummed(key.address)
    speaks = [
        stage.network.read("Escrow", "speaksFor", text, checksummed(k.address)) for k in (owner, key, other)
    ]
    assert speaks == [True, True, False]
    stage.call(owner.address, "Escrow", "revoke", text)
    assert bind(stage, owner, key, 0, FOREVER) == "SessionRevoked"
    assert not stage.network.read("Escrow", "speaksFor", text, text)


def test_an_unbound_payer_pays_nothing(stage):
    stage.serve(10)
    nobody = key_of("nobody")
    fields = stage.voucher.voucher.__class__(nobody.address, stage.lane, 1, 0, 5, 5, bytes(32))
    call = ([(checksummed(nobody.address), checksummed(stage.lane), 1, 0, 5, 5, bytes(32))],
            [sign(stage.domain, nobody, fields)])  # fmt: skip
    assert refuse(stage, stage.lane, "redeemMany", checksummed(stage.lane), *call) == "UnknownSession"


def test_money_may_be_deposited_for_another(stage):
    before = stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0]
    stage.fund(WATCHER, "Escrow", 60)
    stage.call(WATCHER, "Escrow", "deposit", checksummed(OWNER), 60)
    assert stage.network.read("Escrow", "balanceOf", checksummed(OWNER))[0] == before + 60
    assert stage.network.read("Escrow", "balanceOf", checksummed(WATCHER))[0] == 0


def test_nothing_is_deposited_and_nobody_else_credits(stage):
    assert refuse(stage, OWNER, "deposit", checksummed(OWNER), 0) == "ZeroAmount"
    call = (checksummed(stage.lane), 0, 5)
    assert stage.network.refusal(WATCHER, "Settlement", "credit", *call) == "NotEscrow"
