"""Receipts and vouchers: every field follows from the terms and the step, and a changed one is found by
name."""

from dataclasses import replace

import pytest

from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_hash
from commonlore.protocol.errors import InvalidSignature, LocalProtocolError, RemoteProtocolError
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.receipts.credits import compute_price, sum_shares
from commonlore.protocol.receipts.outputs import output_root
from commonlore.protocol.receipts.records import ReceiptDetails, Shares, SignedVoucher
from commonlore.protocol.receipts.rules import (
    Step,
    Terms,
    adopt_voucher,
    check_receipt,
    check_voucher,
    check_voucher_names,
    compute_receipt,
    make_voucher,
    sign_receipt,
)
from commonlore.protocol.requests.rules import request_hash
from commonlore.protocol.signing.eip712 import digest, sign
from commonlore.protocol.signing.keys import AccountKey

LANE_KEY = AccountKey.from_secret(b"\x07" * 32)
STRANGER = AccountKey.from_secret(b"\x66" * 32)
FIRST = Step(tokens=tuple(range(40)))


@pytest.fixture
def terms(domain, request_):
    return Terms(
        request_, request_hash(domain, request_), cid_of(b"artefact"), Rates(1000, 2000, 5), DEFAULT_SPLIT
    )


@pytest.fixture
def details(request_):
    return ReceiptDetails(bytes(32), bytes(32), request_.sampling, "stop")


@pytest.fixture
def issue(domain, terms, details):
    """A signed receipt of a step, some of its fields replaced before it is signed."""

    def issue(at=FIRST, seq=1, **changed):
        receipt = replace(compute_receipt(terms, at, seq, 12, details), **changed)
        return sign_receipt(domain, LANE_KEY, receipt, details)

    return issue


def test_an_honest_receipt_passes_and_says_what_was_delivered(domain, terms, issue):
    signed = issue()
    check_receipt(domain, signed, terms, FIRST)
    receipt = signed.receipt
    assert (receipt.prompt_tokens, receipt.output_tokens) == (12, 40)
    assert receipt.price == compute_price(terms.rates, 12, 40) == sum_shares(receipt.shares)
    assert receipt.output_root == output_root(range(40))


def test_later_steps_charge_neither_prompt_nor_fee_again(domain, terms, issue):
    step = FIRST.after(issue().receipt)
    assert step == Step(index=1, tokens=(), spent=97, last_seq=1)
    step = replace(step, tokens=(7, 8))
    signed = issue(step, seq=4)
    check_receipt(domain, signed, terms, step)
    assert (signed.receipt.prompt_tokens, signed.receipt.price) == (0, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_hash", bytes(32)),
        ("payer", STRANGER.address),
        ("epoch", 4),
        ("adapters", ()),
        ("artefact", cid_of(b"another")),
        ("step", 1),
        ("output_tokens", 41),
        ("output_root", output_root(range(39))),
        ("price", 98),
        ("shares", Shares(97, 0, 0, 0, 0)),
        ("seq", 0),
    ],
)
def test_a_changed_field_is_named(domain, terms, issue, field, value):
    with pytest.raises(RemoteProtocolError, match=rf"receipt\.{field} is "):
        check_receipt(domain, issue(**{field: value}), terms, FIRST)


def test_a_prompt_charged_again_and_a_seq_that_does_not_rise_are_found(domain, terms, issue):
    step = Step(index=1, tokens=(1,), spent=97, last_seq=3)
    with pytest.raises(RemoteProtocolError, match="prompt_tokens"):
        check_receipt(domain, issue(step, seq=4, prompt_tokens=12), terms, step)
    with pytest.raises(RemoteProtocolError, match="above 3"):
        check_receipt(domain, issue(step, seq=3), terms, step)


def test_the_steps_of_an_answer_stay_within_its_max_price(domain, terms, issue):
    for max_price, step in ((96, FIRST), (100, replace(FIRST, index=1, spent=96, last_seq=1))):
        tight = replace(terms, request=replace(terms.request, max_price=max_price))
        receipt = issue(step, seq=2)
        with pytest.raises(RemoteProtocolError, match=f"allows {max_price}"):
            check_receipt(domain, receipt, tight, step)


def test_only_the_lane_signs_its_receipts(domain, terms, issue, details):
    signed = issue()
    forged = replace(signed, signature=sign(domain, STRANGER, signed.receipt))
    with pytest.raises(InvalidSignature):
        check_receipt(domain, forged, terms, FIRST)
    with pytest.raises(LocalProtocolError, match="lane's key"):
        sign_receipt(domain, STRANGER, signed.receipt, details)


def test_details_are_bound_and_repeat_the_sampling(domain, terms, issue, details):
    signed = issue()
    with pytest.raises(RemoteProtocolError, match="details"):
        check_receipt(domain, replace(signed, details=replace(details, finish="length")), terms, FIRST)
    other = replace(details, sampling=replace(details.sampling, seed=8))
    receipt = replace(signed.receipt, details=record_hash(other))
    with pytest.raises(RemoteProtocolError, match=r"details\.sampling"):
        check_receipt(domain, sign_receipt(domain, LANE_KEY, receipt, other), terms, FIRST)


# ---- vouchers


@pytest.fixture
def pay(domain, session):
    def pay(receipt, previous=None):
        return make_voucher(domain, session, receipt, previous)

    return pay


def test_vouchers_accumulate_over_the_channel(domain, issue, pay):
    first, second = issue().receipt, issue(seq=2).receipt
    paid = pay(first)
    check_voucher(domain, paid, first, None)
    later = pay(second, paid)
    check_voucher(domain, later, second, paid)
    assert (paid.voucher.cumulative, later.voucher.cumulative) == (97, 194)
    assert later.voucher.receipt_hash == digest(domain, second)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payer", STRANGER.address),
        ("lane", STRANGER.address),
        ("seq", 2),
        ("epoch", 4),
        ("price", 1),
        ("receipt_hash", bytes(32)),
    ],
)
def test_a_voucher_for_anything_else_is_refused(domain, issue, pay, session, field, value):
    receipt = issue().receipt
    voucher = replace(pay(receipt).voucher, **{field: value})
    wrong = SignedVoucher(voucher, sign(domain, session, voucher))
    with pytest.raises(RemoteProtocolError, match=rf"voucher\.{field} is "):
        check_voucher(domain, wrong, receipt, None)
    with pytest.raises(RemoteProtocolError, match=rf"voucher\.{field} is "):
        check_voucher_names(domain, voucher, receipt)


def test_a_voucher_pays_its_price_on_top_of_the_one_before(domain, issue, pay, session):
    first, second = issue().receipt, issue(seq=2).receipt
    for cumulative in (97, 193, 195):
        voucher = replace(pay(second, pay(first)).voucher, cumulative=cumulative)
        wrong = SignedVoucher(voucher, sign(domain, session, voucher))
        with pytest.raises(RemoteProtocolError, match=r"voucher\.cumulative is"):
            check_voucher(domain, wrong, second, pay(first))
    with pytest.raises(RemoteProtocolError, match="less than its price"):
        check_voucher_names(domain, replace(pay(first).voucher, cumulative=96), first)


def test_only_the_payer_pays(domain, issue):
    receipt = issue().receipt
    with pytest.raises(LocalProtocolError, match="session key"):
        make_voucher(domain, STRANGER, receipt, None)


def test_a_forged_voucher_is_refused(domain, issue, pay):
    receipt = issue().receipt
    voucher = pay(receipt).voucher
    with pytest.raises(InvalidSignature):
        check_voucher(domain, SignedVoucher(voucher, sign(domain, STRANGER, voucher)), receipt, None)


def test_a_receipt_whose_turn_has_passed_is_not_paid(issue, pay):
    later = pay(issue(seq=2).receipt)
    with pytest.raises(RemoteProtocolError, match="after voucher 2"):
        pay(issue(seq=2).receipt, later)
    with pytest.raises(RemoteProtocolError, match="after voucher 2"):
        pay(issue(seq=1).receipt, later)


def test_a_previous_voucher_of_another_channel_is_this_program_s_mistake(issue, pay):
    paid = pay(issue().receipt)
    other = replace(paid, voucher=replace(paid.voucher, lane=Address(bytes(20))))
    with pytest.raises(LocalProtocolError, match="another channel"):
        pay(issue(seq=2).receipt, other)


def test_the_later_voucher_is_adopted(domain, issue, pay, session, lane):
    first = pay(issue().receipt)
    second = pay(issue(seq=2).receipt, first)
    channel = (domain, session.address, lane)
    assert adopt_voucher(*channel, None, None) is None
    assert adopt_voucher(*channel, first, None) == first
    assert adopt_voucher(*channel, None, first) == first
    assert adopt_voucher(*channel, first, second) == second
    assert adopt_voucher(*channel, second, first) == second
    assert adopt_voucher(*channel, first, first) == first


def test_a_voucher_shown_must_be_the_payer_s_and_agree(domain, issue, pay, session, lane):
    first = pay(issue().receipt)
    channel = (domain, session.address, lane)
    with pytest.raises(InvalidSignature):
        adopt_voucher(*channel, None, replace(first, signature=sign(domain, STRANGER, first.voucher)))
    with pytest.raises(RemoteProtocolError, match="lane"):
        adopt_voucher(domain, session.address, STRANGER.address, None, first)
    for seq in (1, 2):  # another voucher of the same seq, or a later one that forgets what was paid
        voucher = replace(first.voucher, seq=seq, receipt_hash=bytes(32))
        twin = SignedVoucher(voucher, sign(domain, session, voucher))
        with pytest.raises(RemoteProtocolError, match="contradict"):
            adopt_voucher(*channel, first, twin)
