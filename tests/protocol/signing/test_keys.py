"""Keys: deterministic, separated by domain, and strict about the one form a signature may have."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.errors import InvalidSignature, LocalProtocolError
from commonlore.protocol.signing.keys import AccountKey, PeerKey, recover, verify_ed25519

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = b"\x33" * 32


def test_ed25519_signs_under_a_domain(peer_key):
    signature = peer_key.sign("commonlore/x/1", b"payload")
    verify_ed25519(peer_key.public, "commonlore/x/1", b"payload", signature)
    for public, domain, payload, wrong in (
        (peer_key.public, "commonlore/y/1", b"payload", signature),
        (peer_key.public, "commonlore/x/1", b"payloae", signature),
        (PeerKey.generate(b"\x04" * 32).public, "commonlore/x/1", b"payload", signature),
        (peer_key.public, "commonlore/x/1", b"payload", signature[:-1]),
        (peer_key.public, "commonlore/x/1", b"payload", b""),
        (peer_key.public, "commonlore/x/1", b"payload", bytes(64)),
        (b"", "commonlore/x/1", b"payload", signature),
        (bytes(32), "commonlore/x/1", b"payload", bytes(64)),
        (b"\x01" + bytes(31), "commonlore/x/1", b"payload", b"\x01" + bytes(63)),
    ):
        with pytest.raises(InvalidSignature, match="not signed by Ed25519 key"):
            verify_ed25519(public, domain, payload, wrong)


def test_domains_cannot_run_into_the_payload(peer_key):
    signature = peer_key.sign("a", b"b\x00c")
    with pytest.raises(InvalidSignature):
        verify_ed25519(peer_key.public, "ab", b"c", signature)


def test_keys_are_their_secrets(peer_key, owner):
    assert PeerKey.generate(peer_key.seed).peer_id == peer_key.peer_id
    assert AccountKey.from_secret(owner.secret).address == owner.address
    assert owner.address.hex() == "1a642f0e3c3af545e7acbd38b07251b3990914f1"
    assert peer_key.seed.hex() not in repr(peer_key)
    assert owner.secret.hex() not in repr(owner)


@pytest.mark.parametrize(
    "secret", [b"", bytes(31), bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big"), bytes(33)]
)
def test_secrets_out_of_range_are_refused(secret):
    with pytest.raises(LocalProtocolError, match="secp256k1 secret"):
        AccountKey.from_secret(secret)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_seeds_of_another_length_are_refused(seed):
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        PeerKey.generate(seed)


@given(secret=st.integers(1, ORDER - 1), digest=st.binary(min_size=32, max_size=32))
def test_signatures_are_recovered(secret, digest):
    key = AccountKey.from_secret(secret.to_bytes(32, "big"))
    signature = key.sign_digest(digest)
    assert recover(digest, signature) == key.address
    assert signature == key.sign_digest(digest)
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2


def test_the_mirrored_signature_is_refused(owner):
    signature = owner.sign_digest(DIGEST)
    mirrored = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    with pytest.raises(InvalidSignature, match="upper half"):
        recover(DIGEST, signature[:32] + mirrored + bytes((55 - signature[64],)))


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 255])
def test_only_27_and_28_are_accepted(owner, v):
    with pytest.raises(InvalidSignature, match="v 27 or 28"):
        recover(DIGEST, owner.sign_digest(DIGEST)[:64] + bytes([v]))


@given(noise=st.binary(max_size=70))
def test_any_bytes_give_an_address_or_invalid_signature(noise):
    for signature in (noise, noise.ljust(64, b"\x00")[:64] + b"\x1b"):
        with suppress(InvalidSignature):
            assert len(recover(DIGEST, signature)) == 20
