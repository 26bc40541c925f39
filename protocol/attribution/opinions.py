"""A second attributor's part: what it is shown of an answer, and what it checks before it scores it.

Rules of this file: whoever asks shows the payer's own signed request with its opening, so that nobody scores
an answer whose payer has not agreed to that (`Disclosure.AUDIT_AND_ATTRIBUTION`); and the receipt with the
tokens that its output root commits, and the receipts of the steps before it with theirs, each named by a
voucher of the payer's: so what is scored, and what it is scored after, is what was paid. A worker's own
signature alone would let it show other tokens before, and steer the score.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from ..encoding.codec import record_cid
from ..encoding.fields import U32, Size
from ..errors import RemoteProtocolError
from ..ids import Address, Cid
from ..receipts.outputs import output_root
from ..receipts.records import SignedReceipt, SignedVoucher
from ..receipts.rules import check_voucher_names
from ..receipts.seconding import MAX_BONDED, BondedList, DrawnSecond, place_in_list
from ..requests.records import MAX_OUTPUT_TOKENS, Disclosure, SignedRequest
from ..requests.rules import compute_prompt_root
from ..signing.bindings import check_binding
from ..signing.eip712 import Domain, digest, require_signer
from .pools import draw_attributors

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
    `before`. `bonded` are those whom the attributor was drawn from by `beacon`; None where no chain tells.
    `challenged` is a row of the index that the worker found not to be its row's gradient: look at it, too.
    """

    signed: SignedRequest
    paid: PaidReceipt
    adapter: Cid
    index: Cid
    earlier: Annotated[tuple[PaidReceipt, ...], Size(0, MAX_EARLIER)]
    before: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)]
    tokens: Annotated[tuple[U32, ...], Size(1, MAX_OUTPUT_TOKENS)]
    beacon: Annotated[bytes, Size(0, 64)] = b""
    bonded: BondedList | None = None
    challenged: U32 | None = None


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


def check_second(domain: Domain, key: bytes, drawn: DrawnSecond, worker: Address) -> None:
    """Raises InvalidSignature or RemoteProtocolError unless the sealer of a second statement, an Ed25519 key,
    is who it says, and not the account of the receipt's worker."""
    binding = drawn.binding.binding
    check_binding(domain, drawn.binding, binding.not_before)
    if binding.ed25519_key != key:
        raise RemoteProtocolError("a second statement was sealed by another key than its binding names")
    if binding.owner == worker:
        raise RemoteProtocolError("a second statement is by the receipt's own worker under another key")


def check_drawn(receipt_hash: bytes, drawn: DrawnSecond, listed: BondedList, worker: Address) -> int:
    """How many of those who had bonded come before a second attributor in the lot, the worker left out.

    Raises RemoteProtocolError unless it is drawn from this list, which is as it says; from an empty one
    anybody may be.
    """
    if record_cid(listed) != drawn.bonded:
        raise RemoteProtocolError("a second attributor was drawn from another list than the one given")
    if list(listed.accounts) != sorted(set(listed.accounts)):
        raise RemoteProtocolError("who has bonded must be listed by account, each once")
    others = [account for account in listed.accounts if account != worker]
    owner = drawn.binding.binding.owner
    if others and owner not in others:
        raise RemoteProtocolError(f"0x{owner.hex()} scored second and is not among the {len(others)} bonded")
    lots = draw_attributors(drawn.beacon, receipt_hash, others, len(others))
    return lots.index(owner) if others else 0


def check_listed(listed: BondedList, ever: Collection[Address], still: Collection[Address]) -> None:
    """Raises RemoteProtocolError unless a list has only accounts that had bonded by its block, and all whose
    bond has stood unchanged since before it; a full one those of them that come before its last."""
    if strange := sorted(set(listed.accounts) - set(ever)):
        raise RemoteProtocolError(f"0x{strange[0].hex()} had not bonded at block {listed.block}")
    missing = sorted(set(still) - set(listed.accounts))
    if len(listed.accounts) == MAX_BONDED:
        last = max(place_in_list(listed.block, account) for account in listed.accounts)
        missing = [account for account in missing if place_in_list(listed.block, account) < last]
    if missing:
        raise RemoteProtocolError(f"0x{missing[0].hex()} had bonded at block {listed.block}, and is left out")
