"""Fraud proofs as transactions: which function of which contract a fraud goes to, and its arguments as the
ABI wants them.

Field orders are those of the Solidity structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from ...protocol.content.lineage import Ancestor, ContributorGap
from ...protocol.encoding.merkle import SumNode
from ...protocol.ids import checksummed, digest_of
from ...protocol.receipts.records import Receipt, SignedVoucher, Voucher
from ...protocol.settlement.commitments import Commitment
from ...protocol.settlement.frauds import Argument, Fraud, FraudKind, RawManifest, Served
from ...protocol.settlement.openings import (
    CreditOpening,
    CreditSpan,
    EarningsOpening,
    LineOpening,
    ReceiptLeaf,
    ReceiptOpening,
    VoucherOpening,
)
from ..calling.transactions import Sent
from ..calling.tuples import commitment_tuple, voucher_tuple
from .calls import ContractCalls

PROOFS: Mapping[FraudKind, tuple[str, str]] = {
    FraudKind.UNSORTED_RECEIPTS: ("ReceiptProofs", "proveUnsorted"),
    FraudKind.BAD_RECEIPT: ("ReceiptProofs", "proveBadReceipt"),
    FraudKind.OVERLAP: ("ReceiptProofs", "proveOverlap"),
    FraudKind.BAD_LINE: ("LineProofs", "proveBadLine"),
    FraudKind.STRAY_LINE: ("LineProofs", "proveStrayLine"),
    FraudKind.DOUBLE_LINE: ("LineProofs", "proveDoubleLine"),
    FraudKind.BAD_SPLIT: ("LineProofs", "proveBadSplit"),
    FraudKind.WRONG_AUTHOR: ("LineProofs", "proveWrongAuthor"),
    FraudKind.UNSORTED_ACCOUNTS: ("EarningsProofs", "proveUnsorted"),
    FraudKind.DECREASE: ("EarningsProofs", "proveDecrease"),
    FraudKind.DROPPED: ("EarningsProofs", "proveDropped"),
    FraudKind.WRONG_CUMULATIVE: ("EarningsProofs", "proveWrongCumulative"),
    FraudKind.UNSORTED_CREDITS: ("CreditProofs", "proveUnsorted"),
    FraudKind.MISSING_CREDIT: ("CreditProofs", "proveMissing"),
    FraudKind.POOL_SUM: ("CreditProofs", "provePoolSum"),
    FraudKind.WRONG_ACCOUNT: ("CreditProofs", "proveWrongAccount"),
    FraudKind.OUTSIDE_LINEAGE: ("CreditProofs", "proveOutsideLineage"),
}


def prove(client: ContractCalls, fraud: Fraud) -> Sent:
    """Sends a fraud's proof: the commitment is taken back, and its poster's bond slashed, half of it to this
    account.

    Raises Rejected where the contract sees no fraud, or the window has passed.
    """
    return client.send(f"prove {fraud.kind}", proof_function(client, fraud))


def proof_function(client: ContractCalls, fraud: Fraud) -> Any:
    """The call that proves a fraud, to be sent or tried."""
    contract, name = PROOFS[fraud.kind]
    arguments = [abi_argument(argument) for argument in fraud.arguments]
    return client.function(contract, name, checksummed(fraud.lane), *arguments)


def abi_argument(argument: Argument) -> Any:
    """One argument of a proof."""
    match argument:
        case bool() | int():
            return argument
        case bytes():
            return checksummed(argument)
        case tuple():
            return [abi_argument(each) for each in argument]
        case Commitment():
            return commitment_tuple(argument)
        case ReceiptLeaf():
            return _leaf(argument)
        case VoucherOpening():
            leaf = _leaf(argument.leaf)
            return (*leaf[:2], _voucher(argument.voucher), *leaf[3:])
        case ReceiptOpening():
            return receipt_opening(argument)
        case LineOpening():
            return _line(argument)
        case EarningsOpening():
            place = (argument.index, path_tuples(argument.path))
            return (checksummed(argument.account), argument.cumulative, *place)
        case CreditOpening():
            return _credit(argument)
        case Served():
            return (_line(argument.line), receipt_opening(argument.receipt))
        case RawManifest():
            return argument.data
        case Ancestor():
            return (argument.record_id, list(argument.datanets), list(argument.parents))
        case ContributorGap():
            return _gap(argument)
        case CreditSpan():
            return tuple(
                [_credit(credit) for credit in part]
                for part in (argument.before, argument.inside, argument.after)
            )
        case _:
            assert_never(argument)


def receipt_opening(opening: ReceiptOpening) -> tuple[Any, ...]:
    """A receipt with all that its hashes are of."""
    settled = opening.settled
    return (
        settled.receipt_id,
        receipt_tuple(settled.receipt),
        _voucher(settled.voucher),
        settled.voucher_signature,
        settled.receipt.price,
        opening.index,
        path_tuples(opening.path),
    )


def receipt_tuple(receipt: Receipt) -> tuple[Any, ...]:
    """A receipt as the ABI wants it."""
    shares = receipt.shares
    return (
        receipt.request_hash,
        checksummed(receipt.payer),
        checksummed(receipt.lane),
        receipt.seq,
        receipt.epoch,
        receipt.step,
        digest_of(receipt.artefact),
        [(digest_of(entry.adapter), entry.weight_ppm) for entry in receipt.adapters],
        receipt.prompt_tokens,
        receipt.output_tokens,
        receipt.output_root,
        receipt.price,
        (shares.platform, shares.worker, shares.author, shares.work_pool, shares.contributors),
        receipt.details,
    )


def path_tuples(path: tuple[SumNode, ...]) -> list[tuple[bytes, int]]:
    """A path's steps."""
    return [(step.hash, step.amount) for step in path]


def _gap(gap: ContributorGap) -> tuple[Any, ...]:
    left = (gap.is_left, checksummed(gap.left), gap.left_index, list(gap.left_path))
    return (*left, gap.is_right, checksummed(gap.right), list(gap.right_path))


def _voucher(voucher: Voucher) -> tuple[Any, ...]:
    return voucher_tuple(SignedVoucher(voucher, bytes(65)))


def _leaf(leaf: ReceiptLeaf) -> tuple[Any, ...]:
    hashes = (leaf.id, leaf.receipt_digest, leaf.voucher_digest, leaf.signature_hash)
    return (*hashes, leaf.price, leaf.index, path_tuples(leaf.path))


def _line(opening: LineOpening) -> tuple[Any, ...]:
    line = opening.line
    place = (checksummed(line.author), line.adapter, line.receipt_id)
    return (*place, list(line.totals), line.price, opening.index, path_tuples(opening.path))


def _credit(opening: CreditOpening) -> tuple[Any, ...]:
    credit = opening.credit
    what = (credit.pool, credit.role, checksummed(credit.account), credit.amount)
    return (*what, opening.index, path_tuples(opening.path))
