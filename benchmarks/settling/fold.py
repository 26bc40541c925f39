"""An epoch of a million receipts, folded into trees and proved; and signatures made and checked.

`python -m benchmarks.settling.fold` prints one JSON object. It is a process of its own, so that its peak
memory is the fold's and nobody else's. It has one thread and waits for nothing, so seconds are those that it
had a core: what else the machine does lengthens them little.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.encoding.merkle import MerkleSumTree, verify_sum
from commonlore.protocol.ids import Address, Cid, cid_of, keccak256
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.records import Receipt, Voucher, Weight
from commonlore.protocol.settlement.commitments import build_epoch, verify_claim
from commonlore.protocol.settlement.settled import EpochBuilder, SettledReceipt, fold_earnings
from commonlore.protocol.signing.eip712 import Domain, digest, require_signer, sign
from commonlore.protocol.signing.keys import AccountKey

DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
LANE = AccountKey.from_secret(keccak256(b"lane"))
PAYER = AccountKey.from_secret(keccak256(b"payer"))
T = TypeVar("T")
EPOCH = 7
BLOCK = 10_000
"""Receipts made before each turn of the clock: making them is not what is measured."""


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """How large an epoch is folded. Each receipt pays four roles and the contributors of its adapter."""

    receipts: int = 1_000_000
    channels: int = 2_000
    adapters: int = 80
    contributors: int = 6
    signatures: int = 20_000


@dataclass(frozen=True, slots=True)
class Fold:
    """Seconds and MB: `add` folds receipts in (their digests, leaves and credits), `trees` sorts and hashes,
    `proofs` proves every account's claim and one receipt a channel."""

    receipts: int
    accounts: int
    credits: int
    proofs: int
    add_s: float
    trees_s: float
    proofs_s: float
    before_mb: float
    peak_mb: float

    @property
    def seconds(self) -> float:
        """All of it, on one core."""
        return self.add_s + self.trees_s + self.proofs_s


@dataclass(frozen=True, slots=True)
class Signing:
    """Per second on one core: receipts signed, and signatures checked with their digests (of receipts and
    vouchers alike, as settling checks them)."""

    sign_per_s: float
    verify_per_s: float
    verify_receipts_per_s: float


def measure_fold(plan: FoldPlan) -> Fold:
    """Fold, build, prove, and check what came of it."""
    before, builder, add_s = _peak_mb(), EpochBuilder(DOMAIN, EPOCH), 0.0
    for block in _blocks(plan):
        began = time.process_time()
        for settled in block:
            builder.add(settled)
        add_s += time.process_time() - began
    began = time.process_time()
    tree, lines, credits = builder.receipt_tree(), builder.line_tree(), builder.pool_credits()
    trees = build_epoch(DOMAIN, EPOCH + 1, (), fold_earnings({}, credits), credits)
    built = time.process_time()
    claims = trees.claims()
    indexes = range(0, tree.count, max(1, tree.count // plan.channels))
    proofs = [tree.proof(index) for index in indexes]
    proved = time.process_time()
    assert trees.commitment.cumulative_total == tree.total == lines.total
    assert all(verify_claim(trees.commitment, claim) for claim in claims)
    assert all(_holds(tree, index, proof) for index, proof in zip(indexes, proofs, strict=True))
    return Fold(
        receipts=tree.count,
        accounts=len(claims),
        credits=len(credits),
        proofs=len(claims) + len(proofs),
        add_s=add_s,
        trees_s=built - began,
        proofs_s=proved - built,
        before_mb=before,
        peak_mb=_peak_mb(),
    )


def measure_signing(count: int) -> Signing:
    """Sign and check `count` receipts and as many vouchers."""
    receipts = [next(_receipts(FoldPlan(channels=1), number)) for number in range(count)]
    vouchers = [_voucher(receipt) for receipt in receipts]
    signed, sign_s = _timed(lambda: [sign(DOMAIN, LANE, receipt) for receipt in receipts])
    paid = [sign(DOMAIN, PAYER, voucher) for voucher in vouchers]

    def check_receipts() -> None:
        for receipt, signature in zip(receipts, signed, strict=True):
            require_signer(DOMAIN, receipt, signature, LANE.address)

    def check_vouchers() -> None:
        for voucher, signature in zip(vouchers, paid, strict=True):
            require_signer(DOMAIN, voucher, signature, PAYER.address)

    receipts_s, vouchers_s = _timed(check_receipts)[1], _timed(check_vouchers)[1]
    return Signing(count / sign_s, 2 * count / (receipts_s + vouchers_s), count / receipts_s)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    done = work()
    return done, time.process_time() - began


def _holds(tree: MerkleSumTree, index: int, proof: list) -> bool:
    return verify_sum((tree.root, tree.total), tree.leaf(index), index, tree.count, proof)


def _blocks(plan: FoldPlan) -> Iterator[list[SettledReceipt]]:
    receipts = _receipts(plan)
    weights = [_weights(plan, adapter) for adapter in range(plan.adapters)]
    for start in range(0, plan.receipts, BLOCK):
        count = min(BLOCK, plan.receipts - start)
        yield [_settled(next(receipts), weights[number % plan.adapters]) for number in range(count)]


def _receipts(plan: FoldPlan, first: int = 0) -> Iterator[Receipt]:
    """Receipts of all channels in turn, each of another price."""
    payers = [_account(f"payer {channel}") for channel in range(plan.channels)]
    adapters: list[Cid] = [cid_of(b"adapter %d" % number) for number in range(plan.adapters)]
    number = first
    while True:
        price = 1_000 + number % 4_000
        yield Receipt(
            request_hash=number.to_bytes(32, "big"),
            payer=payers[number % plan.channels],
            lane=LANE.address,
            seq=1 + number // plan.channels,
            epoch=EPOCH,
            step=0,
            artefact=adapters[0],
            adapters=(AdapterWeight(adapters[number % plan.adapters], PPM),),
            prompt_tokens=100,
            output_tokens=50,
            output_root=number.to_bytes(32, "big"),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT),
            details=bytes(32),
        )
        number += 1


def _settled(receipt: Receipt, weights: tuple[Weight, ...]) -> SettledReceipt:
    """Signatures are apart: 65 bytes of each, as a leaf hashes them."""
    roles = RolePayees(*(_account(role) for role in ("platform", "worker", "author", "work pool")))
    signature = receipt.request_hash + receipt.output_root + b"\x1b"
    credits = compute_credits(receipt, roles, weights)
    return SettledReceipt(receipt, signature, _voucher(receipt), signature, (_account("author"),), credits)


def _voucher(receipt: Receipt) -> Voucher:
    cumulative = receipt.seq * 5_000
    named = digest(DOMAIN, receipt)
    return Voucher(receipt.payer, receipt.lane, receipt.seq, receipt.epoch, cumulative, receipt.price, named)


def _weights(plan: FoldPlan, adapter: int) -> tuple[Weight, ...]:
    part = PPM // plan.contributors
    rest = PPM - part * (plan.contributors - 1)
    names = [_account(f"contributor {adapter} {number}") for number in range(plan.contributors)]
    return tuple(Weight(account, part if number else rest) for number, account in enumerate(names))


def _account(name: str) -> Address:
    return Address(keccak256(name.encode())[12:])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settling.fold")
    parser.add_argument("--receipts", type=int, default=FoldPlan().receipts)
    parser.add_argument("--signatures", type=int, default=FoldPlan().signatures)
    options = parser.parse_args()
    fold = measure_fold(FoldPlan(receipts=options.receipts))
    signing = measure_signing(options.signatures)
    print(json.dumps({"fold": asdict(fold) | {"seconds": fold.seconds}, "signing": asdict(signing)}))


if __name__ == "__main__":
    main()
