"""What the control API shows: records of this node as plain JSON.

Amounts are token units, losses nats a token. Hashes and receipt ids are 0x and hexadecimal, accounts EIP-55
text, content ids and peer ids as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ...protocol.content.compositions import AdapterWeight
from ...protocol.errors import RemoteProtocolError
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Address, Cid, PeerId, checksummed, receipt_id_of
from ...protocol.receipts.credits import heaviest_adapter, sum_shares
from ...protocol.receipts.records import Credit, Receipt, SignedReceipt
from ...protocol.signing.eip712 import Domain, require_signer
from ..asking.answers import Citation, Transcript
from ..asking.attempt_parts import Offer
from ..attribution.statements import ReceiptCredits
from ..store.ledger_rows import StoredReceipt

_ADDRESS_BYTES = 20
_MICRO = 1_000_000


def plain(value: Any) -> Any:
    """Any record of ours as JSON values: dataclasses by field, accounts as EIP-55 text, other bytes as 0x."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return checksummed(Address(value)) if len(value) == _ADDRESS_BYTES else hex_of(value)
        case Path():
            return str(value)
        case Mapping():
            return {str(plain(name)): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)


def hex_of(value: bytes) -> str:
    """0x and hexadecimal."""
    return "0x" + value.hex()


def id_of(signed: SignedReceipt) -> str:
    """A receipt's id, as people write it."""
    return hex_of(receipt_id_of(signed.receipt.payer, signed.receipt.lane, signed.receipt.seq))


def is_verified(domain: Domain, signed: SignedReceipt) -> bool:
    """Whether a receipt is signed by its lane's key and its shares are its price.

    What else can be checked (that it is for what was asked and delivered, at the advertised rates) was
    checked before its voucher was signed: see `peer.attempt`.
    """
    try:
        require_signer(domain, signed.receipt, signed.signature, signed.receipt.lane)
    except RemoteProtocolError:
        return False
    return sum_shares(signed.receipt.shares) == signed.receipt.price


def receipt_line(domain: Domain, signed: SignedReceipt) -> dict[str, Any]:
    """What an answer shows of each of its receipts."""
    return {
        "id": id_of(signed),
        "price": signed.receipt.price,
        "prompt_tokens": signed.receipt.prompt_tokens,
        "output_tokens": signed.receipt.output_tokens,
        "verified": is_verified(domain, signed),
    }


def answer_view(
    domain: Domain,
    script: Transcript,
    adapters: tuple[AdapterWeight, ...],
    citations: Sequence[Citation] = (),
) -> dict[str, Any]:
    """A whole answer; of several adapters, `adapter` weighs most. `citations` are called by number in it."""
    return {
        "text": script.text,
        "adapter": heaviest_adapter(adapters),
        "adapters": plain(adapters),
        "workers": list(script.workers),
        "artefacts": list(script.artefacts),
        "receipts": [receipt_line(domain, signed) for signed in script.receipts],
        "price": script.price,
        "prompt_tokens": script.prompt_tokens,
        "output_tokens": len(script.tokens),
        "finish": script.finish,
        "citations": plain(citations),
    }


def receipt_view(domain: Domain, stored: StoredReceipt) -> dict[str, Any]:
    """A recorded receipt, without its credits."""
    receipt = stored.receipt
    return {
        **receipt_line(domain, stored.signed),
        "number": stored.number,
        "hash": hex_of(stored.receipt_hash),
        "role": stored.role.value,
        "state": stored.state.value,
        "created_ms": stored.created_ms,
        "payer": checksummed(receipt.payer),
        "lane": checksummed(receipt.lane),
        "seq": receipt.seq,
        "step": receipt.step,
        "epoch": receipt.epoch,
        "commitment": stored.commitment,
        "artefact": receipt.artefact,
        "adapters": plain(receipt.adapters),
        "shares": plain(receipt.shares),
        "finish": stored.signed.details.finish,
    }


def credits_view(known: ReceiptCredits, names: Mapping[Address, str]) -> dict[str, Any]:
    """Who earns what from a receipt; `method` tells how the contributors' weights were found, `names` what
    accounts are called here.
    """
    called = {**names, **known.names}
    entries = [
        {
            "account": checksummed(credit.account),
            "name": called.get(credit.account),
            "role": credit.role,
            "amount": credit.amount,
            "adapter": _adapter_of(known.receipt.receipt, credit),
        }
        for credit in known.credits
    ]
    return {"credits": entries, "method": known.method}


def _adapter_of(receipt: Receipt, credit: Credit) -> Cid | None:
    """From whose part of a receipt a credit is; None where no adapter was used."""
    if not receipt.adapters:
        return None
    return receipt.adapters[credit.part or 0].adapter


def adapter_view(record: AdapterRecord) -> dict[str, Any]:
    """An adapter as it is announced; losses are None where none was measured."""
    return {
        "alias": record.alias,
        "id": record.adapter,
        "base": record.base,
        "index": record.index,
        "faithfulness": record.faithfulness,
        "heldout_loss_before": record.loss_before_micro / _MICRO or None,
        "heldout_loss_after": record.loss_after_micro / _MICRO or None,
        "issued_ms": record.issued_ms,
    }


def worker_view(offer: Offer) -> dict[str, Any]:
    """A worker as it advertises itself."""
    ad = offer.ad
    return {
        "peer": offer.peer,
        "lane": checksummed(ad.binding.binding.session_key),
        "base": ad.base,
        "artefact": ad.artefact,
        "rates": plain(ad.rates),
        "queue_depth": ad.queue_depth,
        "running": ad.running,
        "max_batch": ad.max_batch,
        "max_context": ad.max_context,
        "resident": list(ad.resident),
        "addresses": list(ad.addresses),
    }


def peers_view(
    peer_id: PeerId, addresses: tuple[str, ...], connected: set[PeerId], offers: tuple[Offer, ...]
) -> dict[str, Any]:
    """Whom this peer is connected to, and which workers it knows."""
    return {
        "peer_id": peer_id,
        "addresses": list(addresses),
        "connected": sorted(connected),
        "workers": [worker_view(offer) for offer in sorted(offers, key=lambda offer: offer.peer)],
    }
