"""A second attributor's part: what it is shown of an answer, and what it checks before it scores it.

Rules of this file: whoever asks shows the payer's own signed request with its opening, so that nobody scores
an answer whose payer has not agreed to that (`Disclosure.AUDIT_AND_ATTRIBUTION`); and the receipt with the
tokens that its output root commits, so that what is scored is what was paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .eip712 import Domain, digest, require_signer
from .errors import RemoteProtocolError
from .fields import U32, Size
from .ids import Cid
from .outputs import output_root
from .receipts import SignedReceipt
from .request_rules import compute_prompt_root
from .requests import MAX_OUTPUT_TOKENS, Disclosure, SignedRequest


@dataclass(frozen=True, slots=True)
class OpinionRequest:
    """worker → attributor: whose rows led to `tokens`, after the output tokens `before`, by this index?"""

    signed: SignedRequest
    receipt: SignedReceipt
    index: Cid
    before: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)]
    tokens: Annotated[tuple[U32, ...], Size(1, MAX_OUTPUT_TOKENS)]


def check_opening(domain: Domain, asked: OpinionRequest) -> None:
    """Raises InvalidSignature or RemoteProtocolError unless this is the opening of a paid answer whose payer
    agreed to attribution."""
    receipt, request, prompt = asked.receipt.receipt, asked.signed.request, asked.signed.prompt
    require_signer(domain, receipt, asked.receipt.signature, receipt.lane)
    require_signer(domain, request, asked.signed.signature, request.payer)
    if digest(domain, request) != receipt.request_hash or request.adapters != receipt.adapters:
        raise RemoteProtocolError("the receipt is not one of this request")
    if request.disclosure != Disclosure.AUDIT_AND_ATTRIBUTION:
        raise RemoteProtocolError("the payer did not disclose this answer for attribution")
    if compute_prompt_root(prompt) != request.prompt_root:
        raise RemoteProtocolError("the prompt is not the one that was signed")
    if output_root(asked.tokens) != receipt.output_root:
        raise RemoteProtocolError("the tokens are not those that the receipt commits")
    if asked.before[: len(prompt.delivered)] != prompt.delivered:
        raise RemoteProtocolError("the tokens before do not begin with those that were delivered")
