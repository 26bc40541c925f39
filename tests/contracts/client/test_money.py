"""Deposits, reservations, notice and withdrawal; session keys."""

import pytest

from commonlore.protocol.errors import InsufficientEscrow
from commonlore.protocol.ids import Address, keccak256

LANE = Address(keccak256(b"lane")[12:])


def test_deposit_moves_tokens_into_the_escrow(network):
    alice = network.party("alice", 1_000)
    alice.chain.deposit(600)
    assert alice.chain.balance(alice.owner.address) == 400
    assert alice.chain.balance(network.deployment.escrow) == 600
    assert alice.chain.owner_balance(alice.owner.address).amount == 600


def test_deposit_for_another_owner(network):
    alice, bob = network.party("alice", 1_000), network.party("bob")
    alice.chain.deposit(100, bob.owner.address)
    assert bob.chain.owner_balance(bob.owner.address).amount == 100


def test_deposit_of_nothing_and_of_what_is_not_there(network, tools):
    alice = network.party("alice", 1_000)
    with tools.refused("ZeroAmount"):
        alice.chain.deposit(0)
    with pytest.raises(InsufficientEscrow):
        alice.chain.deposit(2_000)


def test_withdrawal_needs_notice(network, tools):
    alice = network.payer("alice", 1_000)
    with tools.refused("NothingThaws"):
        alice.chain.withdraw()
    alice.chain.thaw(300)
    with tools.refused("StillThawing"):
        alice.chain.withdraw()
    network.clock.now += tools.TERMS.thaw_period
    alice.chain.withdraw()
    assert alice.chain.balance(alice.owner.address) == 300
    assert alice.chain.owner_balance(alice.owner.address).amount == 700
    with tools.refused("NothingThaws"):
        alice.chain.withdraw()


def test_notice_cannot_be_given_for_money_that_is_not_there(network, tools):
    alice = network.payer("alice", 1_000)
    with tools.refused("ThawExceedsFund"):
        alice.chain.thaw(1_001)


def test_spent_money_takes_its_notice_along(network, tools):
    """Otherwise a reservation made later could leave at once under an old notice."""
    alice, bob = network.payer("alice", 1_000), network.party("bob")
    alice.chain.reserve(alice.key, bob.key, 400)
    alice.chain.thaw_reservation(alice.key, bob.key, 400)
    bob.chain.redeem([alice.voucher(bob.key, 300)])
    state = bob.chain.escrow_of(alice.key, bob.key)
    assert (state.reservation.amount, state.reservation.thawing) == (100, 100)
    alice.chain.reserve(alice.key, bob.key, 500)
    network.clock.now += tools.TERMS.thaw_period
    alice.chain.release_reservation(alice.key, bob.key)
    state = bob.chain.escrow_of(alice.key, bob.key)
    assert (state.reservation.amount, state.reservation.dependable) == (500, 500)


def test_reservations_thaw_back_to_the_balance(network, tools):
    alice = network.payer("alice", 1_000)
    alice.chain.reserve(alice.key, LANE, 400)
    with tools.refused("ThawExceedsFund"):
        alice.chain.thaw_reservation(alice.key, LANE, 401)
    alice.chain.thaw_reservation(alice.key, LANE, 150)
    with tools.refused("StillThawing"):
        alice.chain.release_reservation(alice.key, LANE)
    network.clock.now += tools.TERMS.thaw_period
    alice.chain.release_reservation(alice.key, LANE)
    state = alice.chain.escrow_of(alice.key, LANE)
    assert (state.balance.amount, state.reservation.amount, state.available) == (750, 250, 1_000)


def test_only_the_owner_reserves_and_only_what_there_is(network, tools):
    alice, bob = network.payer("alice", 1_000), network.payer("bob", 1_000)
    for attempt in (bob.chain.reserve, bob.chain.thaw_reservation):
        with tools.refused("NotOwner"):
            attempt(alice.key, LANE, 1)
    with tools.refused("NotOwner"):
        bob.chain.release_reservation(alice.key, LANE)
    with tools.refused("ZeroAmount"):
        alice.chain.reserve(alice.key, LANE, 0)
    with pytest.raises(InsufficientEscrow, match="InsufficientBalance"):
        alice.chain.reserve(alice.key, LANE, 1_001)


def test_binding_is_recorded_once_and_renewed_later(network, tools):
    alice = network.party("alice", bound=False)
    assert alice.chain.escrow_of(alice.key, LANE).owner is None
    assert alice.chain.bind(alice.binding()) is not None
    assert alice.chain.bind(alice.binding()) is None
    assert alice.chain.owner_of(alice.key) == alice.owner.address
    assert alice.chain.bind(alice.binding(tools.GENESIS + 2 * tools.YEAR)) is not None
    assert alice.chain.escrow_of(alice.key, LANE).session_ends == tools.GENESIS + 2 * tools.YEAR


def test_anyone_may_bring_a_binding(network):
    alice, bob = network.party("alice", bound=False), network.party("bob")
    bob.chain.bind(alice.binding())
    assert bob.chain.owner_of(alice.key) == alice.owner.address


def test_bindings_out_of_time_are_refused(network, tools):
    alice = network.party("alice", bound=False)
    with tools.refused("BindingExpired"):
        alice.chain.bind(alice.binding(tools.GENESIS - 5))
    network.clock.now = tools.GENESIS - 60
    early = network.party("early", bound=False)
    fresh = early.binding()
    later = type(fresh.binding)(
        fresh.binding.owner, fresh.binding.session_key, fresh.binding.ed25519_key, 2**40, 2**41
    )
    with tools.refused("BindingNotYetValid"):
        early.chain.bind(type(fresh)(later, *[b"\x01" * 65] * 2, bytes(64)))


def test_both_keys_must_have_signed(network, tools):
    alice, bob = network.party("alice", bound=False), network.party("bob", bound=False)
    good, other = alice.binding(), bob.binding()
    for owner, session in (
        (other.owner_signature, good.session_signature),
        (good.owner_signature, other.session_signature),
        (b"", good.session_signature),
    ):
        with tools.refused("BadSignature"):
            alice.chain.bind(type(good)(good.binding, owner, session, good.ed25519_signature))


def test_a_session_key_stays_with_its_owner(network, tools):
    alice, bob = network.party("alice"), network.party("bob", bound=False)
    bob.session = alice.session
    with tools.refused("SessionTaken"):
        bob.chain.bind(bob.binding(tools.GENESIS + 2 * tools.YEAR))


def test_revocation_thaws_and_cannot_be_undone_by_an_old_binding(network, tools):
    alice, bob = network.payer("alice", 1_000), network.party("bob")
    first, second = alice.voucher(bob.key, 100), alice.voucher(bob.key, 200)
    with tools.refused("NotOwner"):
        bob.chain.revoke(alice.key)
    alice.chain.revoke(alice.key)
    with tools.refused("SessionRevoked"):
        alice.chain.revoke(alice.key)
    with tools.refused("SessionRevoked"):
        alice.chain.bind(alice.binding(tools.GENESIS + 2 * tools.YEAR))
    assert bob.chain.redeem([first]).amount == 100
    network.clock.now += tools.TERMS.thaw_period + 1
    (refused,) = bob.chain.redeem([second]).refused
    assert refused.error.reason.name == "SessionExpired"


def test_a_revoked_lane_key_loses_its_say_at_once_but_the_owner_keeps_it(network, tools):
    alice, bob = network.payer("alice", 1_000), network.party("bob")
    network.devchain.fund(bob.key)
    lane_client = network.client(bob.session)
    assert lane_client.redeem([alice.voucher(bob.key, 100)]).amount == 100
    bob.chain.revoke(bob.key)
    with tools.refused("NotLane"):
        lane_client.redeem([alice.voucher(bob.key, 200)])
    assert bob.chain.redeem([alice.voucher(bob.key, 200)]).amount == 100
