"""Nobody scores an answer whose payer did not agree to it, or tokens that were not paid."""

from __future__ import annotations

import dataclasses

import pytest

from commonlore.protocol.bindings import bind
from commonlore.protocol.codec import record_hash
from commonlore.protocol.credits import DEFAULT_SPLIT, compute_shares
from commonlore.protocol.eip712 import Domain, digest
from commonlore.protocol.errors import InvalidSignature, RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.keys import AccountKey, PeerKey
from commonlore.protocol.opinions import OpinionRequest, check_opening
from commonlore.protocol.outputs import output_root
from commonlore.protocol.receipt_rules import sign_receipt
from commonlore.protocol.receipts import Receipt, ReceiptDetails
from commonlore.protocol.request_rules import compute_prompt_root, sign_request
from commonlore.protocol.requests import (
    PPM,
    AdapterWeight,
    ChatMessage,
    Disclosure,
    InferenceRequest,
    Prompt,
    Sampling,
)

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
    return OpinionRequest(
        signed, sign_receipt(DOMAIN, LANE, receipt, DETAILS), cid_of(b"index"), (1, 2), TOKENS
    )


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
        (
            dataclasses.replace(whole, signed=dataclasses.replace(whole.signed, prompt=other)),
            "the prompt is not",
        ),
        (dataclasses.replace(whole, receipt=asked(Disclosure.AUDIT).receipt), "not one of this request"),
    )
    for changed, complaint in changes:
        with pytest.raises(RemoteProtocolError, match=complaint):
            check_opening(DOMAIN, changed)
    for forged in (
        dataclasses.replace(whole, receipt=dataclasses.replace(whole.receipt, signature=bytes(65))),
        dataclasses.replace(whole, signed=dataclasses.replace(whole.signed, signature=bytes(65))),
    ):
        with pytest.raises(InvalidSignature):
            check_opening(DOMAIN, forged)
