"""A receipt's parts: nothing of it vanishes or is paid twice, over all adapters and channels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import LocalProtocolError, RemoteProtocolError
from commonlore.protocol.ids import RAW, Address, cid_of, cid_of_digest, digest_of
from commonlore.protocol.receipts.channels import Channel, combine_channels, mix_adapters, payable
from commonlore.protocol.receipts.credits import (
    RolePayees,
    apportion,
    compute_credits,
    compute_shares,
    divide_shares,
    heaviest_adapter,
    sum_shares,
)
from commonlore.protocol.receipts.parts import NO_SHARES, attributed, part_of, receipt_parts
from commonlore.protocol.receipts.records import Effects, PartEffect, Receipt, Shares, Weight
from commonlore.protocol.requests.rules import check_adapters

ANA, BEN, CAT, DAN = (Address(bytes([n]) * 20) for n in (1, 2, 3, 4))
PAYEES = RolePayees(ANA, BEN, CAT, DAN)
accounts = st.integers(0, 5).map(lambda n: Address(bytes([n + 9]) * 20))
priors = st.dictionaries(accounts, st.integers(1, PPM), min_size=1, max_size=4).map(
    lambda found: tuple(Weight(payee, ppm) for payee, ppm in found.items())
)
prompt_parts = st.builds(
    PartEffect, st.sampled_from(list(Channel)), st.just(bytes(32)), accounts, st.integers(0, 2**40)
)
effects = st.none() | st.builds(Effects, st.integers(0, 2**40), st.lists(prompt_parts, max_size=6).map(tuple))


@st.composite
def mixtures(draw):
    """One to eight adapters whose weights make a whole, in any order."""
    weights = draw(st.lists(st.integers(1, 1_000), min_size=1, max_size=8))
    names = draw(st.lists(st.binary(min_size=32, max_size=32), unique=True, min_size=8, max_size=8))
    ppm = apportion(PPM - len(weights), weights, names[: len(weights)])
    return tuple(
        AdapterWeight(cid_of_digest(name, RAW), part + 1) for name, part in zip(names, ppm, strict=False)
    )


def receipt_of(adapters, shares):
    return Receipt(
        bytes(32), ANA, BEN, 1, 0, 0, cid_of(b"artefact"), adapters, 1, 1, bytes(32),
        sum_shares(shares), shares, bytes(32),
    )  # fmt: skip


def added(shares):
    fields = ("platform", "worker", "author", "work_pool", "contributors")
    return Shares(*(sum(getattr(each, field) for each in shares) for field in fields))


@settings(max_examples=60)
@given(mixtures(), st.lists(st.integers(0, 2**100) | st.integers(0, 9), min_size=5, max_size=5))
def test_parts_add_up_to_the_receipt_role_by_role(adapters, amounts):
    check_adapters(adapters)
    receipt = receipt_of(adapters, Shares(*amounts))
    parts = receipt_parts(receipt)
    assert added([part.shares for part in parts]) == receipt.shares
    heaviest = heaviest_adapter(adapters)
    for part in parts:
        assert part.adapter == adapters[part.number].adapter
        assert part.shares == part_of(receipt, digest_of(part.adapter))
        for part_amount, whole in (
            (part.shares.author, receipt.shares.author),
            (part.shares.contributors, receipt.shares.contributors),
        ):
            assert abs(part_amount * PPM - whole * part.weight_ppm) < PPM, "within a unit of its weight"
        if part.adapter != heaviest:
            assert (part.shares.platform, part.shares.worker, part.shares.work_pool) == (0, 0, 0)
    assert part_of(receipt, b"\x09" * 32) == NO_SHARES
    assert {part.number for part in attributed(receipt)} == {part.number for part in parts if part.price}


@settings(max_examples=60)
@given(mixtures(), st.integers(0, 10**24) | st.integers(0, 40), st.data())
def test_every_unit_goes_to_one_account_over_all_adapters_and_channels(adapters, price, data):
    """Statements on each adapter with what the prompt's parts did; their weights divide its part."""
    receipt = receipt_of(adapters, compute_shares(price, DEFAULT_SPLIT))
    paid, mixed = [], []
    for part in receipt_parts(receipt):
        own, measured = data.draw(priors), data.draw(effects)
        weights = combine_channels(own, payable(measured, {weight.payee for weight in own}))
        given_out = divide_shares(part.shares, PAYEES, weights, part.number)
        assert sum(credit.amount for credit in given_out) == part.price
        assert {c.account for c in given_out if c.role == "contributor"} <= {w.payee for w in own}
        paid += given_out
        mixed.append((weights, part.weight_ppm))
    assert sum(credit.amount for credit in paid) == price
    whole = mix_adapters(mixed)
    assert sum(weight.ppm for weight in whole) == PPM
    earned = {}
    for credit in paid:
        if credit.role == "contributor":
            earned[credit.account] = earned.get(credit.account, 0) + credit.amount
    total, accounts_in_all = receipt.shares.contributors, sum(len(weights) for weights, _ in mixed)
    for weight in whole:
        off = abs(earned.get(weight.payee, 0) * PPM - total * weight.ppm)
        assert off <= (accounts_in_all + 8) * PPM + total, "what is said of the answer is what is paid"


def test_a_tie_goes_to_the_lowest_digest_as_on_the_chain():
    """Not to the lowest text: base32 sorts digits before letters, whose values they exceed."""
    for first in range(256):
        one, other = bytes([first] * 32), bytes([(first * 7 + 3) % 256] * 32)
        if one != other:
            entries = [AdapterWeight(cid_of_digest(each, RAW), PPM // 2) for each in (one, other)]
            assert digest_of(heaviest_adapter(entries)) == min(one, other)
            shares = receipt_parts(receipt_of(tuple(entries), Shares(0, 0, 1, 0, 1)))
            lowest = min((one, other)) == other
            assert shares[lowest].shares == Shares(0, 0, 1, 0, 1)


def test_an_answer_without_an_adapter_has_one_part():
    shares = Shares(1, 2, 0, 3, 0)
    (part,) = receipt_parts(receipt_of((), shares))
    assert (part.adapter, part.shares, part.price) == (None, shares, 6)
    assert part_of(receipt_of((), shares), bytes(32)) == shares
    assert attributed(receipt_of((), shares)) == ()


def test_weights_of_nothing_divide_nothing():
    entries = tuple(AdapterWeight(cid_of(name), 0) for name in (b"one", b"two"))
    with pytest.raises(LocalProtocolError):
        receipt_parts(receipt_of(entries, Shares(0, 0, 1, 0, 0)))
    with pytest.raises(LocalProtocolError, match="by its parts"):
        compute_credits(receipt_of(entries, Shares(0, 0, 0, 0, 0)), PAYEES, [])


def test_one_digest_under_two_codecs_is_one_adapter():
    entries = tuple(AdapterWeight(cid_of_digest(b"\x01" * 32, codec), PPM // 2) for codec in (RAW, 0x71))
    with pytest.raises(RemoteProtocolError, match="twice"):
        check_adapters(entries)
