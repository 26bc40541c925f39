"""Honest attributors say the same bytes, whatever their machines round."""

from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.attribution.attestations import attribution_verdict, is_wrong, weights_digest
from commonlore.protocol.attribution.pools import TOLERANCE_PPM
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address
from commonlore.protocol.receipts.records import Weight

ONE, TWO = (Address(bytes([n]) * 20) for n in (1, 2))


def weights(ppm):
    return (Weight(ONE, ppm), Weight(TWO, PPM - ppm))


@settings(max_examples=20)
@given(st.integers(0, TOLERANCE_PPM), st.integers(0, TOLERANCE_PPM), st.integers(20_000, PPM - 20_000))
def test_within_the_tolerance_of_what_was_paid_all_say_the_same(above, below, ppm):
    paid = weights(ppm)
    said = {attribution_verdict(paid, weights(each)) for each in (ppm, ppm + above, ppm - below)}
    assert said == {weights_digest(paid)}


def test_beyond_it_ones_own_weights_are_named():
    paid, own = weights(500_000), weights(500_001 + TOLERANCE_PPM)
    assert attribution_verdict(paid, own) == weights_digest(own) != weights_digest(paid)


def test_order_and_zeros_do_not_matter():
    named = (Weight(TWO, 1), Weight(ONE, PPM - 1), Weight(Address(bytes(20)), 0))
    assert weights_digest(named) == weights_digest(weights(PPM - 1))
    assert weights_digest(weights(5)) != weights_digest(weights(6))


@settings(max_examples=20)
@given(st.integers(-TOLERANCE_PPM, TOLERANCE_PPM))
def test_whoever_is_honest_is_never_ruled_against(rounding):
    """The payment is right within the tolerance of the judge's weights, and whoever said so named it."""
    found = weights(500_000)
    paid, own = weights(500_000 + rounding), weights(500_000 - rounding)
    named = paid if attribution_verdict(paid, own) == weights_digest(paid) else own
    assert not is_wrong(named, found)
    assert is_wrong(weights(500_001 + 2 * TOLERANCE_PPM), found)
