"""Bindings: three keys, three signatures, one deployment, a time."""

from dataclasses import replace

import pytest

from commonlore.protocol.errors import InvalidSignature, LocalProtocolError, RemoteProtocolError, Stale
from commonlore.protocol.ids import Address
from commonlore.protocol.signing.bindings import MAX_CLOCK_SKEW_S, bind, check_binding
from commonlore.protocol.signing.keys import PeerKey


def test_a_binding_holds_for_its_time(domain, binding, now):
    times = binding.binding
    for moment in (times.not_before - MAX_CLOCK_SKEW_S, times.not_before, now, times.not_after - 1):
        check_binding(domain, binding, moment)
    for moment in (times.not_before - MAX_CLOCK_SKEW_S - 1, times.not_after, times.not_after + 10**9):
        with pytest.raises(Stale):
            check_binding(domain, binding, moment)


def test_a_binding_holds_for_one_deployment(other_domain, binding, now):
    with pytest.raises(InvalidSignature, match="31338"):
        check_binding(other_domain, binding, now)


@pytest.mark.parametrize("name", ["owner_signature", "session_signature", "ed25519_signature"])
def test_every_signature_counts(domain, binding, now, name):
    signature = getattr(binding, name)
    for wrong in (bytes(len(signature)), b"", signature[:-2] + bytes([signature[-2] ^ 1]) + signature[-1:]):
        with pytest.raises(InvalidSignature):
            check_binding(domain, replace(binding, **{name: wrong}), now)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": Address(b"\x01" * 20)},
        {"session_key": Address(b"\x01" * 20)},
        {"ed25519_key": PeerKey.generate(b"\x09" * 32).public},
        {"not_before": 0},
        {"not_after": 2**64 - 1},
    ],
)
def test_every_field_is_signed(domain, binding, now, change):
    with pytest.raises(InvalidSignature):
        check_binding(domain, replace(binding, binding=replace(binding.binding, **change)), now)


def test_signatures_do_not_stand_for_each_other(domain, binding, now):
    swapped = replace(
        binding, owner_signature=binding.session_signature, session_signature=binding.owner_signature
    )
    with pytest.raises(InvalidSignature):
        check_binding(domain, swapped, now)


def test_the_session_key_is_not_the_owner(domain, owner, peer_key, now):
    with pytest.raises(RemoteProtocolError, match="must be another key"):
        check_binding(domain, bind(domain, owner, owner, peer_key, now - 1, now + 1), now)


def test_a_binding_without_time_is_not_made(domain, owner, session, peer_key, now):
    with pytest.raises(LocalProtocolError, match="never valid"):
        bind(domain, owner, session, peer_key, now, now)
