"""Records as the tuples that the contracts' ABI wants, and back.

Field orders are those of the Solidity structs.
"""

from __future__ import annotations

from typing import Any

from ...protocol.content.manifests import Split
from ...protocol.ids import checksummed, to_address
from ...protocol.receipts.records import SignedVoucher
from ...protocol.settlement.commitments import Claim, Commitment
from .records import PaidClaim


def split_tuple(split: Split) -> tuple[int, int, int, int, int]:
    return (split.platform, split.worker, split.author, split.work_pool, split.contributors)


def voucher_tuple(signed: SignedVoucher) -> tuple[Any, ...]:
    voucher = signed.voucher
    return (
        checksummed(voucher.payer),
        checksummed(voucher.lane),
        voucher.seq,
        voucher.epoch,
        voucher.cumulative,
        voucher.price,
        voucher.receipt_hash,
    )


def commitment_tuple(commitment: Commitment) -> tuple[Any, ...]:
    """A commitment as the ABI wants it."""
    return (
        commitment.epoch,
        commitment.receipt_root,
        commitment.earnings_root,
        commitment.receipt_sum,
        commitment.cumulative_total,
        commitment.receipt_count,
        commitment.account_count,
        commitment.data_hash,
        commitment.line_root,
        commitment.account_credit_root,
        commitment.pool_credit_root,
        commitment.credit_count,
        commitment.line_count,
    )


def commitment_of(fields: Any) -> Commitment:
    return Commitment(
        epoch=fields["epoch"],
        receipt_root=bytes(fields["receiptRoot"]),
        earnings_root=bytes(fields["earningsRoot"]),
        receipt_sum=fields["receiptSum"],
        cumulative_total=fields["cumulativeTotal"],
        receipt_count=fields["receiptCount"],
        account_count=fields["accountCount"],
        data_hash=bytes(fields["dataHash"]),
        line_root=bytes(fields["lineRoot"]),
        account_credit_root=bytes(fields["accountCreditRoot"]),
        pool_credit_root=bytes(fields["poolCreditRoot"]),
        credit_count=fields["creditCount"],
        line_count=fields["lineCount"],
    )


def claim_tuple(claim: Claim) -> tuple[Any, ...]:
    path = [(step.hash, step.amount) for step in claim.path]
    return (checksummed(claim.account), claim.cumulative, claim.index, path)


def paid_claim(arguments: Any) -> PaidClaim:
    return PaidClaim(
        account=to_address(arguments["account"]),
        paid_to=to_address(arguments["paidTo"]),
        amount=arguments["amount"],
        cumulative=arguments["cumulative"],
    )
