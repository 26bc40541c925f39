"""What a receipt must say, and what the voucher that pays it must say.

Rules of this file:

- Client and worker agree on `Terms` before the first token and count the same `Step`; every field of a
  receipt follows from the two, but for its seq, prompt tokens and details. The checks are small functions,
  each raising RemoteProtocolError.
- Prompt tokens and the request fee are charged in step 0 only. The receipts of a request never cost more than
  its max_price together.
- Seqs of a channel start at 1 and rise. A voucher pays exactly one receipt: its cumulative is that of the
  channel's previous voucher plus the receipt's price. So vouchers are signed in the order of seq, and a
  receipt whose turn has passed must be issued again under a higher seq.
- Either side may have lost its last vouchers: whoever shows a later one, signed by the payer, is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..content.manifests import Split
from ..encoding.codec import record_hash
from ..errors import LocalProtocolError, RemoteProtocolError
from ..gossip.adverts import Rates
from ..ids import Address, Cid
from ..requests.prompt_parts import ROW, TEMPLATE, TOOL, parts_of
from ..requests.records import InferenceRequest, Prompt
from ..signing.eip712 import Domain, digest, require_signer, sign
from ..signing.keys import AccountKey
from .credits import compute_price, compute_shares
from .outputs import output_root
from .records import Receipt, ReceiptDetails, SignedReceipt, SignedVoucher, Voucher


@dataclass(frozen=True, slots=True)
class Terms:
    """What both sides know before the first token: the request, its hash, and what the lane's advert and the
    adapter's manifest say. `split` is the heaviest adapter's, without adapters the advert's `base_split`."""

    request: InferenceRequest
    request_hash: bytes
    artefact: Cid
    rates: Rates
    split: Split


@dataclass(frozen=True, slots=True)
class Step:
    """What the next receipt of a request is about: the tokens delivered since the one before, what the
    earlier ones cost together, and the seq of the last of them (0: none)."""

    index: int = 0
    tokens: tuple[int, ...] = ()
    spent: int = 0
    last_seq: int = 0

    def after(self, receipt: Receipt) -> Step:
        """The step that follows this paid receipt."""
        return Step(self.index + 1, (), self.spent + receipt.price, receipt.seq)


# ---- receipts


def compute_receipt(
    terms: Terms, step: Step, seq: int, prompt_tokens: int, details: ReceiptDetails
) -> Receipt:
    """The receipt of a step; `prompt_tokens` counts in step 0. Raises RemoteProtocolError on a bad split."""
    request, charged = terms.request, 0 if step.index else prompt_tokens
    price = compute_price(terms.rates, charged, len(step.tokens), step=step.index)
    return Receipt(
        request_hash=terms.request_hash,
        payer=request.payer,
        lane=request.lane,
        seq=seq,
        epoch=request.epoch,
        step=step.index,
        artefact=terms.artefact,
        adapters=request.adapters,
        prompt_tokens=charged,
        output_tokens=len(step.tokens),
        output_root=output_root(step.tokens),
        price=price,
        shares=compute_shares(price, terms.split),
        details=record_hash(details),
    )


def sign_receipt(domain: Domain, key: AccountKey, receipt: Receipt, details: ReceiptDetails) -> SignedReceipt:
    """Signed by the lane's key. Raises LocalProtocolError for another lane's receipt or other details."""
    if key.address != receipt.lane or record_hash(details) != receipt.details:
        raise LocalProtocolError("a receipt is signed by its lane's key, with the details that it names")
    return SignedReceipt(receipt, sign(domain, key, receipt), details)


def check_request_named(receipt: Receipt, terms: Terms) -> None:
    """The receipt is for this request, its payer, lane, epoch and adapters."""
    request = terms.request
    _require_equal("request_hash", receipt.request_hash, terms.request_hash)
    _require_equal("payer", receipt.payer, request.payer)
    _require_equal("lane", receipt.lane, request.lane)
    _require_equal("epoch", receipt.epoch, request.epoch)
    _require_equal("adapters", receipt.adapters, request.adapters)
    _require_equal("artefact", receipt.artefact, terms.artefact)


def check_delivered(receipt: Receipt, step: Step) -> None:
    """It is the next step, for exactly the tokens delivered, and its seq is above the earlier steps'."""
    _require_equal("step", receipt.step, step.index)
    _require_equal("output_tokens", receipt.output_tokens, len(step.tokens))
    _require_equal("output_root", receipt.output_root, output_root(step.tokens))
    if step.index:
        _require_equal("prompt_tokens", receipt.prompt_tokens, 0)
    if receipt.seq <= step.last_seq:
        raise RemoteProtocolError(f"receipt.seq is {receipt.seq}; it must be above {step.last_seq}")


def check_price(receipt: Receipt, terms: Terms, step: Step) -> None:
    """The price follows from the advertised rates and stays, with the earlier steps', within max_price."""
    price = compute_price(terms.rates, receipt.prompt_tokens, receipt.output_tokens, step=step.index)
    _require_equal("price", receipt.price, price)
    if step.spent + price > terms.request.max_price:
        raise RemoteProtocolError(
            f"the answer costs {step.spent + price} token units; the request allows {terms.request.max_price}"
        )


def check_shares(receipt: Receipt, terms: Terms) -> None:
    """The role shares are the split of the price."""
    _require_equal("shares", receipt.shares, compute_shares(receipt.price, terms.split))


def check_receipt(domain: Domain, signed: SignedReceipt, terms: Terms, step: Step) -> None:
    """Everything a client checks before it pays. Raises RemoteProtocolError, InvalidSignature."""
    check_request_named(signed.receipt, terms)
    check_delivered(signed.receipt, step)
    check_price(signed.receipt, terms, step)
    check_shares(signed.receipt, terms)
    _require_equal("details", signed.receipt.details, record_hash(signed.details))
    _require_equal("details.sampling", signed.details.sampling, terms.request.sampling)
    require_signer(domain, signed.receipt, signed.signature, terms.request.lane)


def name_parts(details: ReceiptDetails, prompt: Prompt) -> ReceiptDetails:
    """The details with the rows, the template and the tool calls that are in the prompt."""
    template = next(iter(parts_of(prompt, TEMPLATE)), None)
    rows, tools = parts_of(prompt, ROW), parts_of(prompt, TOOL)
    return replace(details, retrieved_rows=rows, prompt_template=template, tool_calls=tools)


def check_parts_named(details: ReceiptDetails, prompt: Prompt) -> None:
    """Raises RemoteProtocolError unless the details name exactly what is in the prompt."""
    _require_equal("details of what is in the prompt", details, name_parts(details, prompt))


# ---- vouchers


def compute_voucher(domain: Domain, receipt: Receipt, previous: SignedVoucher | None) -> Voucher:
    """The one voucher that pays `receipt` after the channel's `previous` one.

    Raises RemoteProtocolError where the receipt's turn has passed, LocalProtocolError where `previous` is
    another channel's.
    """
    seq, cumulative = 0, 0
    if previous is not None:
        if (previous.voucher.payer, previous.voucher.lane) != (receipt.payer, receipt.lane):
            raise LocalProtocolError("the previous voucher is of another channel than the receipt")
        seq, cumulative = previous.voucher.seq, previous.voucher.cumulative
    if receipt.seq <= seq:
        raise RemoteProtocolError(
            f"receipt {receipt.seq} comes after voucher {seq} of its channel was signed"
        )
    return Voucher(
        payer=receipt.payer,
        lane=receipt.lane,
        seq=receipt.seq,
        epoch=receipt.epoch,
        cumulative=cumulative + receipt.price,
        price=receipt.price,
        receipt_hash=digest(domain, receipt),
    )


def make_voucher(
    domain: Domain, key: AccountKey, receipt: Receipt, previous: SignedVoucher | None
) -> SignedVoucher:
    """Pays a receipt that `check_receipt` passed.

    Raises LocalProtocolError with another key than the payer's.
    """
    if key.address != receipt.payer:
        raise LocalProtocolError("a voucher is signed by the session key that the receipt names as payer")
    voucher = compute_voucher(domain, receipt, previous)
    return SignedVoucher(voucher, sign(domain, key, voucher))


def check_voucher(
    domain: Domain, signed: SignedVoucher, receipt: Receipt, previous: SignedVoucher | None
) -> None:
    """Whether this pays the worker for its receipt. Raises RemoteProtocolError, InvalidSignature."""
    expected = compute_voucher(domain, receipt, previous)
    for field in fields(expected):
        given, wanted = getattr(signed.voucher, field.name), getattr(expected, field.name)
        _require_equal(field.name, given, wanted, record="voucher")
    require_signer(domain, signed.voucher, signed.signature, receipt.payer)


def check_voucher_names(domain: Domain, voucher: Voucher, receipt: Receipt) -> None:
    """Whether a voucher is for this receipt, whatever else its channel paid. Raises RemoteProtocolError."""
    for name in ("payer", "lane", "seq", "epoch", "price"):
        _require_equal(name, getattr(voucher, name), getattr(receipt, name), record="voucher")
    _require_equal("receipt_hash", voucher.receipt_hash, digest(domain, receipt), record="voucher")
    if voucher.cumulative < voucher.price:
        raise RemoteProtocolError(f"voucher.cumulative is {voucher.cumulative}, less than its price")


def adopt_voucher(
    domain: Domain, payer: Address, lane: Address, own: SignedVoucher | None, shown: SignedVoucher | None
) -> SignedVoucher | None:
    """The channel's highest voucher: one's own, or a later one that the other side shows.

    Raises RemoteProtocolError where the one shown is of another channel or contradicts one's own,
    InvalidSignature where the payer did not sign it.
    """
    if shown is None:
        return own
    _require_equal("payer", shown.voucher.payer, payer, record="voucher")
    _require_equal("lane", shown.voucher.lane, lane, record="voucher")
    require_signer(domain, shown.voucher, shown.signature, payer)
    if own is None or own.voucher == shown.voucher:
        return shown
    low, high = sorted((own, shown), key=lambda signed: signed.voucher.seq)
    if (
        low.voucher.seq == high.voucher.seq
        or low.voucher.cumulative > high.voucher.cumulative - high.voucher.price
    ):
        raise RemoteProtocolError(
            f"two vouchers of one channel contradict each other at seq {low.voucher.seq}"
        )
    return high


def _require_equal(name: str, given: object, expected: object, *, record: str = "receipt") -> None:
    if given != expected:
        raise RemoteProtocolError(f"{record}.{name} is {_shown(given)}; it must be {_shown(expected)}")


def _shown(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)[:200]
