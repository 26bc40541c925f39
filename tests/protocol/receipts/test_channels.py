"""Money over channels: everything adds up exactly, whatever was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.attribution.scoring import check_weights
from commonlore.protocol.encoding.codec import decode, encode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError
from commonlore.protocol.ids import Address
from commonlore.protocol.receipts.channels import (
    CAPS_PPM,
    Channel,
    combine_channels,
    divide_channels,
    mix_adapters,
    payable,
)
from commonlore.protocol.receipts.records import Effects, PartEffect, Weight

ANA, BEN, CAT = (Address(bytes([n]) * 20) for n in (1, 2, 3))
OWN = (Weight(ANA, 600_000), Weight(BEN, 400_000))
accounts = st.integers(0, 5).map(lambda n: Address(bytes([n]) * 20))
amounts = st.one_of(st.integers(0, 50), st.integers(0, 2**64 - 1))
parts = st.builds(
    PartEffect, st.sampled_from(list(Channel)), st.binary(min_size=32, max_size=32), accounts, amounts
)
effects = st.one_of(st.none(), st.builds(Effects, amounts, st.lists(parts, max_size=12).map(tuple)))
weights = st.dictionaries(accounts, st.integers(1, PPM), min_size=1).map(
    lambda found: tuple(Weight(payee, ppm) for payee, ppm in found.items())
)


def row(payee, effect, channel="row"):
    return PartEffect(channel, bytes(32), payee, effect)


@given(weights, effects)
def test_channels_add_up_and_keep_their_caps(own, measured):
    shares = divide_channels(own, measured)
    assert sum(share.ppm for share in shares) == PPM
    assert [share.channel for share in shares][:1] == [Channel.ADAPTER]
    for share in shares:
        assert sum(weight.ppm for weight in share.weights) == share.ppm
        assert share.ppm <= CAPS_PPM.get(share.channel, PPM)
    combined = combine_channels(own, measured)
    check_weights(combined)
    of_tools = {part.payee for part in (measured.parts if measured else ()) if part.channel == Channel.TOOL}
    earning = {weight.payee for weight in own} | {
        part.payee for part in (measured.parts if measured else ()) if part.channel != Channel.TOOL
    }
    assert {weight.payee for weight in combined} <= earning | (of_tools & earning)


@given(weights)
def test_without_effects_the_adapter_has_everything(own):
    everything = combine_channels(own, None)
    assert everything == combine_channels(own, Effects(7, ())) == mix_adapters([(own, 1)])
    assert combine_channels(own, Effects(7, (row(CAT, 0), row(CAT, 9, "tool")))) == everything


def test_effects_divide_in_proportion():
    found = combine_channels(OWN, Effects(3_000_000, (row(CAT, 1_000_000),)))
    assert found == (Weight(ANA, 450_000), Weight(BEN, 300_000), Weight(CAT, 250_000))


def test_caps_hold_where_the_adapter_did_nothing():
    found = combine_channels(OWN, Effects(0, (row(CAT, 5), row(CAT, 5, "template"))))
    assert found == (Weight(ANA, 240_000), Weight(BEN, 160_000), Weight(CAT, 600_000))


def test_who_is_in_several_channels_is_paid_the_sum():
    found = combine_channels(OWN, Effects(1, (row(ANA, 1), row(ANA, 0))))
    assert found == (Weight(ANA, 800_000), Weight(BEN, 200_000))


def test_several_adapters_count_by_their_weights():
    first, second = ((Weight(ANA, PPM),), 700_000), ((Weight(ANA, 500_000), Weight(BEN, 500_000)), 300_000)
    assert mix_adapters([first, second]) == (Weight(ANA, 850_000), Weight(BEN, 150_000))
    assert mix_adapters([second, first]) == mix_adapters([first, second])
    with pytest.raises(LocalProtocolError):
        mix_adapters([])


def test_an_adapter_s_channel_without_anybody_is_an_error():
    with pytest.raises(LocalProtocolError, match="nobody"):
        combine_channels((), None)


def test_only_the_adapter_s_contributors_are_paid():
    measured = Effects(5, (row(CAT, 9), row(BEN, 1)))
    assert payable(measured, {ANA, BEN}) == Effects(5, (row(BEN, 1),))
    assert payable(None, {ANA}) is None


def test_effects_travel():
    measured = Effects(5, (row(CAT, 9), row(BEN, 1, "tool")))
    assert decode(Effects, encode(measured)) == measured
