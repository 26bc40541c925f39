"""Nobody scores an answer whose payer did not agree to it, or tokens that were not paid."""

from __future__ import annotations

import dataclasses

import pytest

from commonlore.protocol.attribution.opinions import (
    OpinionRequest,
    PaidReceipt,
    check_listed,
    check_opening,
)
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import InvalidSignature, RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.outputs import output_root
from commonlore.protocol.receipts.records import Receipt, ReceiptDetails
from commonlore.protocol.receipts.rules import make_voucher, sign_receipt
from commonlore.protocol.receipts.seconding import BondedList, list_bonded
from commonlore.protocol.requests.records import ChatMessage, Disclosure, InferenceRequest, Prompt, Sampling
from commonlore.protocol.requests.rules import compute_prompt_root, sign_request
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import Domain, digest, sign
from commonlore.protocol.signing.keys import AccountKey, PeerKey

DOMAIN = Domain(31_337, Address(b"\x01" * 20))
OWNER, LANE, PAYER = (AccountKey.from_secret(keccak256(name)) for name in (b"owner", b"lane", b"payer"))
PEER = PeerKey.generate(keccak256(b"peer"))
SAMPLING, TOKENS = Sampling(seed=1, max_tokens=8), (4, 5, 6)
PROMPT = Prompt(bytes(32), (ChatMessage("user", "?"),), delivered=(1, 2))
DETAILS = ReceiptDetails(bytes(32), bytes(32), SAMPLING, "stop")
ADAPTERS = (AdapterWeight(cid_of(b"adapter"), PPM),)


def asked(disclosure: Disclosure = Disclosure.AUDIT_AND_ATTRIBUTION) -> OpinionRequest:
    request = InferenceRequest(
        b"r" * 16, PAYER.address, LANE.address, cid_of(b"base"), ADAPTERS, compute_prompt_root(PROMPT),
        SAMPLING, bytes(32), 100, 0, 9_999_999_999, disclosure,
    )  # fmt: skip
    receipt = Receipt(
        digest(DOMAIN, request), PAYER.address, LANE.address, 1, 0, 0, cid_of(b"base"), ADAPTERS, 3, 3,
        output_root(TOKENS), 100, compute_shares(100, DEFAULT_SPLIT), record_hash(DETAILS),
    )  # fmt: skip
    binding = bind(DOMAIN, OWNER, PAYER, PEER, 1, 1 << 40)
    signed = sign_request(DOMAIN, PAYER, request, binding, PROMPT)
    return OpinionRequest(signed, paid(receipt), ADAPTERS[0].adapter, cid_of(b"index"), (), (1, 2), TOKENS)


def paid(receipt: Receipt, voucher_of: Receipt | None = None) -> PaidReceipt:
    """The receipt, signed, with a voucher for it (or for another one in its place)."""
    voucher = make_voucher(DOMAIN, PAYER, voucher_of or receipt, None)
    return PaidReceipt(sign_receipt(DOMAIN, LANE, receipt, DETAILS), voucher)


def second_step(said: tuple[int, ...] = (7, 8), step: int = 1) -> tuple[OpinionRequest, Receipt]:
    """The same answer's next step, after `said`, and the receipt of its first."""
    first = asked()
    one = dataclasses.replace(
        first.paid.signed.receipt, output_tokens=len(said), output_root=output_root(said)
    )
    two = dataclasses.replace(first.paid.signed.receipt, step=step, seq=2)
    whole = dataclasses.replace(first, paid=paid(two), earlier=(paid(one),), before=(1, 2, *said))
    return whole, one


def test_an_answer_that_was_disclosed_and_paid_may_be_scored() -> None:
    check_opening(DOMAIN, asked())


@pytest.mark.parametrize("disclosure", [Disclosure.NONE, Disclosure.AUDIT])
def test_what_the_payer_did_not_disclose_is_not(disclosure: Disclosure) -> None:
    with pytest.raises(RemoteProtocolError, match="did not disclose"):
        check_opening(DOMAIN, asked(disclosure))


def test_what_was_changed_is_not() -> None:
    whole = asked()
    other = dataclasses.replace(PROMPT, messages=(ChatMessage("user", "!"),))
    changes = (
        (dataclasses.replace(whole, tokens=(4, 5)), "tokens are not those"),
        (dataclasses.replace(whole, before=(2, 1)), "tokens before"),
        (dataclasses.replace(whole, adapter=cid_of(b"another")), "does not name adapter"),
        (
            dataclasses.replace(whole, signed=dataclasses.replace(whole.signed, prompt=other)),
            "the prompt is not",
        ),
        (dataclasses.replace(whole, paid=asked(Disclosure.AUDIT).paid), "not one of this request"),
    )
    for changed, complaint in changes:
        with pytest.raises(RemoteProtocolError, match=complaint):
            check_opening(DOMAIN, changed)
    for forged in (
        dataclasses.replace(
            whole,
            paid=dataclasses.replace(
                whole.paid, signed=dataclasses.replace(whole.paid.signed, signature=bytes(65))
            ),
        ),
        dataclasses.replace(whole, signed=dataclasses.replace(whole.signed, signature=bytes(65))),
    ):
        with pytest.raises(InvalidSignature):
            check_opening(DOMAIN, forged)


def test_a_worker_cannot_pay_itself_in_its_payers_name() -> None:
    """A voucher that another than the payer signed pays nothing, for a receipt or for an earlier one."""
    later, _ = second_step()
    by_worker = sign(DOMAIN, LANE, later.paid.voucher.voucher)
    own = dataclasses.replace(
        later.paid, voucher=dataclasses.replace(later.paid.voucher, signature=by_worker)
    )
    earlier = later.earlier[0]
    by_worker = sign(DOMAIN, LANE, earlier.voucher.voucher)
    first = dataclasses.replace(earlier, voucher=dataclasses.replace(earlier.voucher, signature=by_worker))
    for forged in (dataclasses.replace(later, paid=own), dataclasses.replace(later, earlier=(first,))):
        with pytest.raises(InvalidSignature):
            check_opening(DOMAIN, forged)


def test_a_later_step_is_scored_after_what_was_paid_before_it() -> None:
    check_opening(DOMAIN, second_step()[0])


def test_a_worker_cannot_show_other_tokens_before_its_own() -> None:
    whole, one = second_step()
    forged = dataclasses.replace(one, output_root=output_root((9, 9)), output_tokens=2)
    changes = (
        (dataclasses.replace(whole, before=(1, 2, 9, 9)), "commits"),
        (dataclasses.replace(whole, before=(1, 2)), "commits"),
        (dataclasses.replace(whole, before=(1, 2, 7, 8, 9)), "more tokens before"),
        (dataclasses.replace(whole, earlier=()), "not all"),
        (second_step(step=2)[0], "not all"),
        (dataclasses.replace(asked(), before=(1, 2, 7)), "more tokens before"),
        # its own signature on a receipt that the payer never saw
        (dataclasses.replace(whole, earlier=(paid(forged, one),), before=(1, 2, 9, 9)), "voucher"),
        (dataclasses.replace(whole, earlier=(paid(dataclasses.replace(one, step=1)),)), "commits"),
    )
    for changed, complaint in changes:
        with pytest.raises(RemoteProtocolError, match=complaint):
            check_opening(DOMAIN, changed)


def test_an_answer_that_nobody_pays_is_not_scored() -> None:
    whole = asked()
    other = dataclasses.replace(whole.paid.signed.receipt, seq=9)
    with pytest.raises(RemoteProtocolError, match="voucher"):
        check_opening(DOMAIN, dataclasses.replace(whole, paid=paid(whole.paid.signed.receipt, other)))


def test_a_full_list_leaves_out_by_lot_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of bonds neither makes an honest list look cut, nor lets anybody cut one as it suits."""
    for module in ("receipts.seconding", "attribution.opinions"):
        monkeypatch.setattr(f"commonlore.protocol.{module}.MAX_BONDED", 4)
    crowd = {Address(bytes([number]) * 20) for number in range(1, 10)}
    full = list_bonded(7, crowd)
    assert len(full.accounts) == 4
    assert list(full.accounts) == sorted(full.accounts)
    check_listed(full, crowd, crowd)
    assert list_bonded(8, crowd).accounts != full.accounts, "another block, another lot"
    with pytest.raises(RemoteProtocolError, match="is left out"):
        check_listed(BondedList(7, full.accounts[1:]), crowd, crowd)
    outside = next(account for account in sorted(crowd) if account not in full.accounts)
    chosen = BondedList(7, tuple(sorted([*full.accounts[1:], outside])))
    with pytest.raises(RemoteProtocolError, match="is left out"):
        check_listed(chosen, crowd, crowd)
