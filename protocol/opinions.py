"""A second attributor's part: what it is shown of an answer, and what it checks before it scores it.

Rules of this file: whoever asks shows the payer's own signed request with its opening, so that nobody scores
an answer whose payer has not agreed to that (`Disclosure.AUDIT_AND_ATTRIBUTION`); and the receipt with the
tokens that its output root commits, and the receipts of the steps before it with theirs, each named by a
voucher of the payer's: so what is scored, and what it is scored after, is what was paid. A worker's own
signature alone would let it show other tokens before, and steer the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .eip712 import Domain, digest, require_signer
from .errors import RemoteProtocolError
from .fields import U32, Size
from .ids import Cid
from .outputs import output_root
from .receipt_rules import check_voucher_names
from .receipts import SignedReceipt, SignedVoucher
from .request_rules import compute_prompt_root
from .requests import MAX_OUTPUT_TOKENS, Disclosure, SignedRequest

MAX_EARLIER = 1_024
"""Steps of an answer that may come before one that is scored."""


@dataclass(frozen=True, slots=True)
class PaidReceipt:
    """A receipt, and the voucher that names it."""

    signed: SignedReceipt
    voucher: SignedVoucher


@dataclass(frozen=True, slots=True)
class OpinionRequest:
    """worker → attributor: whose rows led to `tokens`, after the output tokens `before`, by this index of one
    of the receipt's adapters?

    `earlier` are the answer's receipts before this one, by step; what was delivered and their tokens make
    `before`.
    """

    signed: SignedRequest
    paid: PaidReceipt
    adapter: Cid
    index: Cid
    earlier: Annotated[tuple[PaidReceipt, ...], Size(0, MAX_EARLIER)]
    before: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)]
    tokens: Annotated[tuple[U32, ...], Size(1, MAX_OUTPUT_TOKENS)]


def check_opening(domain: Domain, asked: OpinionRequest) -> None:
    """Raises InvalidSignature or RemoteProtocolError unless this is the opening of a paid answer whose payer
    agreed to attribution."""
    request, prompt = asked.signed.request, asked.signed.prompt
    receipt = asked.paid.signed.receipt
    require_signer(domain, request, asked.signed.signature, request.payer)
    _check_paid(domain, asked.paid, asked)
    if request.disclosure != Disclosure.AUDIT_AND_ATTRIBUTION:
        raise RemoteProtocolError("the payer did not disclose this answer for attribution")
    if asked.adapter not in {entry.adapter for entry in receipt.adapters}:
        raise RemoteProtocolError(f"the receipt does not name adapter {asked.adapter}")
    if compute_prompt_root(prompt) != request.prompt_root:
        raise RemoteProtocolError("the prompt is not the one that was signed")
    if output_root(asked.tokens) != receipt.output_root:
        raise RemoteProtocolError("the tokens are not those that the receipt commits")
    if asked.before[: len(prompt.delivered)] != prompt.delivered:
        raise RemoteProtocolError("the tokens before do not begin with those that were delivered")
    _check_earlier(domain, asked)


def _check_paid(domain: Domain, paid: PaidReceipt, asked: OpinionRequest) -> None:
    """A receipt is one of this request and this lane, and its payer pays it."""
    receipt, request = paid.signed.receipt, asked.signed.request
    require_signer(domain, receipt, paid.signed.signature, request.lane)
    if (receipt.request_hash, receipt.adapters) != (digest(domain, request), request.adapters):
        raise RemoteProtocolError("the receipt is not one of this request")
    check_voucher_names(domain, paid.voucher.voucher, receipt)
    require_signer(domain, paid.voucher.voucher, paid.voucher.signature, request.payer)


def _check_earlier(domain: Domain, asked: OpinionRequest) -> None:
    """The earlier receipts are all there, and commit what was said between the delivered tokens and these."""
    if len(asked.earlier) != asked.paid.signed.receipt.step:
        raise RemoteProtocolError(f"{len(asked.earlier)} earlier receipts are not all of this answer's")
    said = asked.before[len(asked.signed.prompt.delivered) :]
    for step, paid in enumerate(asked.earlier):
        _check_paid(domain, paid, asked)
        receipt = paid.signed.receipt
        part, said = said[: receipt.output_tokens], said[receipt.output_tokens :]
        if receipt.step != step or not part or output_root(part) != receipt.output_root:
            raise RemoteProtocolError(
                f"the tokens before are not those that the receipt of step {step} commits"
            )
    if said:
        raise RemoteProtocolError("more tokens before than earlier receipts commit")
