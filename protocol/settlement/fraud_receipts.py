"""Frauds in receipts and their lines: see `frauds`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ..errors import LocalProtocolError, RemoteProtocolError
from ..ids import ZERO_ADDRESS, Address, digest_of
from ..receipts.credits import compute_shares, heaviest_adapter, sum_shares
from ..receipts.parts import part_of
from ..receipts.records import Receipt, Shares
from ..receipts.rules import check_voucher_names
from ..requests.rules import check_adapters
from ..signing.eip712 import require_signer
from .epoch_leaves import NO_POOL, Line
from .frauds import Fraud, FraudKind, Posted
from .openings import gap_of, open_leaf, open_line, open_receipt
from .settled import SettledReceipt


def find_receipt_frauds(posted: Posted) -> Iterator[Fraud]:
    """All of them, one kind after the other."""
    yield from _unsorted(posted)
    yield from _bad_receipts(posted)
    yield from _bad_lines(posted)
    yield from _wrong_authors(posted)
    yield from _bad_splits(posted)


def _unsorted(posted: Posted) -> Iterator[Fraud]:
    trees, domain = posted.current, posted.facts.domain
    ids = [settled.receipt_id for settled in trees.receipts]
    for i in range(len(ids) - 1):
        if ids[i + 1] <= ids[i]:
            pair = (open_leaf(domain, trees, i), open_leaf(domain, trees, i + 1))
            said = f"receipts {i} and {i + 1} are " + ("the same" if ids[i + 1] == ids[i] else "out of order")
            yield posted.fraud(FraudKind.UNSORTED_RECEIPTS, said, trees.commitment, *pair)


def _bad_receipts(posted: Posted) -> Iterator[Fraud]:
    for index, settled in enumerate(posted.current.receipts):
        said = _why_bad(posted, settled)
        if said:
            opening = open_receipt(posted.current, index)
            yield posted.fraud(FraudKind.BAD_RECEIPT, said, posted.current.commitment, opening)


def _why_bad(posted: Posted, settled: SettledReceipt) -> str:
    """What is wrong with one receipt; empty where nothing is."""
    facts, receipt, voucher = posted.facts, settled.receipt, settled.voucher
    if receipt.lane != facts.lane:
        return f"receipt {receipt.seq} is of another lane"
    if receipt.epoch > posted.current.commitment.epoch:
        return f"receipt {receipt.seq} is of the later epoch {receipt.epoch}"
    if not receipt.price or sum_shares(receipt.shares) != receipt.price:
        return f"the shares of receipt {receipt.seq} are not its price"
    if not receipt.adapters and (receipt.shares.author or receipt.shares.contributors):
        return f"receipt {receipt.seq} pays an author and contributors of no adapter"
    if voucher.cumulative > facts.redeemed.get(receipt.payer, voucher.cumulative):
        return f"receipt {receipt.seq} was never redeemed"
    try:
        check_adapters(receipt.adapters)
        check_voucher_names(facts.domain, voucher, receipt)
        require_signer(facts.domain, voucher, settled.voucher_signature, voucher.payer)
    except RemoteProtocolError as wrong:
        return str(wrong)
    return f"receipt {receipt.seq} costs more than all of its channel" * (voucher.cumulative < voucher.price)


# ---- lines


def _bad_lines(posted: Posted) -> Iterator[Fraud]:
    trees, commitment = posted.current, posted.current.commitment
    places = {bytes(settled.receipt_id): index for index, settled in enumerate(trees.receipts)}
    ids, before = sorted(places), None
    yield from _double_lines(posted)
    for index, line in enumerate(trees.lines):
        opened = open_line(trees, index)
        place = places.get(line.receipt_id)
        if place is None:
            gap = gap_of(ids, line.receipt_id, lambda i: open_leaf(posted.facts.domain, trees, i))
            said = f"line {index} is of no receipt"
            yield posted.fraud(FraudKind.STRAY_LINE, said, commitment, opened, gap)
        elif not _follows(before, line, trees.receipts[place].receipt):
            earlier = (open_line(trees, index - 1),) if index else ()
            said = f"line {index} does not follow from its receipt and the line before"
            opening = open_receipt(trees, place)
            yield posted.fraud(FraudKind.BAD_LINE, said, commitment, earlier, opened, opening)
        before = line


def _double_lines(posted: Posted) -> Iterator[Fraud]:
    first: dict[tuple[bytes, bytes], int] = {}
    for index, line in enumerate(posted.current.lines):
        earlier = first.setdefault((line.receipt_id, line.adapter), index)
        if earlier != index:
            pair = (open_line(posted.current, earlier), open_line(posted.current, index))
            said = f"lines {earlier} and {index} are of one part of a receipt"
            yield posted.fraud(FraudKind.DOUBLE_LINE, said, posted.current.commitment, *pair)


def _follows(before: Line | None, line: Line, receipt: Receipt) -> bool:
    """Whether a line stands in its place with its part of the receipt and its pool's totals. Its author is
    judged by the adapter's manifest."""
    own = _part(receipt, line)
    is_astray = line.adapter == NO_POOL and line.author != ZERO_ADDRESS
    if own is None or is_astray or not line.price == sum(own) > 0:
        return False
    totals: tuple[int, ...] = (0,) * 5
    if before is not None:
        if (line.pool, line.receipt_id) <= (before.pool, before.receipt_id):
            return False
        totals = before.totals if before.pool == line.pool else totals
    return line.totals == tuple(a + b for a, b in zip(totals, own, strict=True))


def _part(receipt: Receipt, line: Line) -> tuple[int, ...] | None:
    """The five amounts that a line adds to its pool; None where the receipt is a bad one."""
    try:
        shares: Shares = part_of(receipt, line.adapter)
    except LocalProtocolError:
        return None
    return (shares.platform, shares.worker, shares.author, shares.work_pool, shares.contributors)


def _wrong_authors(posted: Posted) -> Iterator[Fraud]:
    """Lines under a record of somebody who only copied the adapter."""
    trees, authors = posted.current, _authors(posted)
    for index, line in enumerate(trees.lines):
        if authors.get(line.adapter, line.author) != line.author:
            said = f"line {index} pays 0x{line.author.hex()} for an adapter of another author"
            shown = (open_line(trees, index), posted.facts.manifests[line.adapter])
            yield posted.fraud(FraudKind.WRONG_AUTHOR, said, trees.commitment, *shown)


def _authors(posted: Posted) -> dict[bytes, Address]:
    """Whom the manifests that are known name, by adapter. What is no manifest names nobody."""
    found: dict[bytes, Address] = {}
    for adapter, manifest in posted.facts.manifests.items():
        with suppress(RemoteProtocolError):
            found[adapter] = manifest.author_payee
    return found


def _bad_splits(posted: Posted) -> Iterator[Fraud]:
    trees = posted.current
    places = {bytes(settled.receipt_id): index for index, settled in enumerate(trees.receipts)}
    for index, line in enumerate(trees.lines):
        place = places.get(line.receipt_id)
        if place is not None and not _is_divided(posted, line, trees.receipts[place].receipt):
            said = f"line {index} is not divided by its adapter's registered split"
            opened = (open_line(trees, index), open_receipt(trees, place))
            yield posted.fraud(FraudKind.BAD_SPLIT, said, trees.commitment, *opened)


def _is_divided(posted: Posted, line: Line, receipt: Receipt) -> bool:
    """Whether a receipt is divided as its heaviest adapter was registered, as far as that is judged by this
    line of it."""
    if line.adapter == NO_POOL:
        return True
    split = posted.facts.split_of(line.pool, receipt.epoch)
    if split is None:
        return not posted.facts.is_unregistered(line.pool, receipt.epoch)
    heaviest = heaviest_adapter(receipt.adapters)
    if heaviest is None or digest_of(heaviest) != line.adapter:
        return True
    return receipt.shares == compute_shares(receipt.price, split)
