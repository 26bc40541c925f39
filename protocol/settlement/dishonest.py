"""Posters that lie, one way at a time: for whoever tests that lies are found.

Rules of this file:

- Each plant changes the data of an honest epoch as little as its lie needs, and keeps every sum that posting
  compares: the chain accepts what comes out, and only a proof takes it back.
- Nothing here is used by a node. `payer` is the key that pays all receipts, which colludes where it must.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..ids import Address, keccak256
from ..receipts.records import Shares
from ..signing.eip712 import Domain, digest, sign
from ..signing.keys import AccountKey
from .commitments import Earning, EpochData, honest_lines
from .epoch_leaves import PoolCredit, by_account
from .frauds import FraudKind
from .settled import SettledReceipt

FRIEND = Address(b"\xf1" * 20)


@dataclass(frozen=True, slots=True)
class Scene:
    """An honest epoch with at least two receipts of one channel, credits, and earnings that were there
    before."""

    domain: Domain
    payer: AccountKey
    data: EpochData

    def resigned(self, settled: SettledReceipt, cumulative: int, **changes: Any) -> SettledReceipt:
        """A receipt with changes, and the voucher that its payer gives for it then."""
        receipt = replace(settled.receipt, **changes)
        named = digest(self.domain, receipt)
        voucher = replace(settled.voucher, cumulative=cumulative, receipt_hash=named)
        signature = sign(self.domain, self.payer, voucher)
        return replace(settled, receipt=receipt, voucher=voucher, voucher_signature=signature)

    def first(self, changed: SettledReceipt) -> EpochData:
        """The data with the receipt of this id changed."""
        receipts = tuple(changed if r.receipt_id == changed.receipt_id else r for r in self.data.receipts)
        return replace(self.data, receipts=receipts)


Plant = Callable[[Scene], EpochData]


def plant(kind: FraudKind, scene: Scene) -> EpochData:
    """The scene's data with one fraud of this kind in it."""
    return PLANTS[kind](scene)


# ---- receipts and lines


def _unsorted_receipts(scene: Scene) -> EpochData:
    one, two, *rest = scene.data.receipts
    return replace(scene.data, receipts=(two, one, *rest))


def _bad_receipt(scene: Scene) -> EpochData:
    settled = scene.data.receipts[0]
    forged = sign(scene.domain, AccountKey.from_secret(keccak256(b"forger")), settled.voucher)
    return scene.first(replace(settled, voucher_signature=forged))


def _overlap(scene: Scene) -> EpochData:
    """The channel's last receipt is paid by money that paid its first."""
    last = max(scene.data.receipts, key=lambda settled: settled.voucher.cumulative)
    return scene.first(scene.resigned(last, last.receipt.price))


def _bad_line(scene: Scene) -> EpochData:
    first, *rest = honest_lines(scene.data)
    totals = (first.totals[0] + 1, *first.totals[1:])
    return replace(scene.data, lines=(replace(first, totals=totals), *rest))


def _stray_line(scene: Scene) -> EpochData:
    first, *rest = honest_lines(scene.data)
    return replace(scene.data, lines=(replace(first, receipt_id=keccak256(b"stray")), *rest))


def _double_line(scene: Scene) -> EpochData:
    """The last receipt has no line, the one before it two."""
    *rest, first, second = honest_lines(scene.data)
    return replace(scene.data, lines=(*rest, first, replace(second, receipt_id=first.receipt_id)))


def _bad_split(scene: Scene) -> EpochData:
    settled = scene.data.receipts[0]
    shares = settled.receipt.shares
    greedy = Shares(
        shares.platform,
        shares.worker + shares.contributors,
        shares.author,
        shares.work_pool,
        0,
    )
    return scene.first(scene.resigned(settled, settled.voucher.cumulative, shares=greedy))


def _wrong_author(scene: Scene) -> EpochData:
    """All receipts stand under a record of the adapter's copy."""
    receipts = tuple(
        replace(settled, authors=(FRIEND,) * len(settled.authors)) for settled in scene.data.receipts
    )
    return replace(scene.data, receipts=receipts)


# ---- earnings and credits


def _unsorted_accounts(scene: Scene) -> EpochData:
    one, two, *rest = scene.data.earnings
    return replace(scene.data, earnings=(two, one, *rest))


def _moved(scene: Scene, amount: Callable[[int], int]) -> EpochData:
    """Part of what the richest account has, given to a friend."""
    richest = max(scene.data.earnings, key=lambda earning: earning.cumulative)
    earned = {earning.account: earning.cumulative for earning in scene.data.earnings}
    earned[richest.account] -= amount(richest.cumulative)
    earned[FRIEND] = earned.get(FRIEND, 0) + amount(richest.cumulative)
    return replace(scene.data, earnings=_earnings(earned))


def _earnings(earned: Mapping[Address, int]) -> tuple[Earning, ...]:
    return tuple(Earning(account, earned[account]) for account in sorted(earned) if earned[account])


def _unsorted_credits(scene: Scene) -> EpochData:
    one, two, *rest = scene.data.credits
    return replace(scene.data, credits=(two, one, *rest))


def _missing_credit(scene: Scene) -> EpochData:
    """One unit is in another place by pool than by account."""
    one, two, *rest = sorted(
        scene.data.credits, key=lambda credit: (credit.pool, credit.role, credit.account)
    )
    moved = (replace(one, amount=one.amount + 1), replace(two, amount=two.amount - 1), *rest)
    return replace(scene.data, pool_credits=moved)


def _pool_sum(scene: Scene) -> EpochData:
    """One unit of the contributors goes to the worker."""
    (worker, *_), (contributor, *_) = (_of_role(scene, role) for role in (1, 4))
    return _recredited(
        scene,
        {
            worker: replace(worker, amount=worker.amount + 1),
            contributor: replace(contributor, amount=contributor.amount - 1),
        },
    )


def _wrong_account(scene: Scene) -> EpochData:
    platform = _of_role(scene, 0)[0]
    return _recredited(scene, {platform: replace(platform, account=FRIEND)})


def _outside_lineage(scene: Scene) -> EpochData:
    contributor = _of_role(scene, 4)[0]
    return _recredited(scene, {contributor: replace(contributor, account=FRIEND)})


def _of_role(scene: Scene, role: int) -> list[PoolCredit]:
    return [credit for credit in scene.data.credits if credit.role == role]


def _recredited(scene: Scene, changes: Mapping[PoolCredit, PoolCredit]) -> EpochData:
    """Other credits, and earnings that follow from them."""
    earned = scene.data.cumulative
    for old, new in changes.items():
        earned[old.account] -= old.amount
        earned[new.account] = earned.get(new.account, 0) + new.amount
    credits = sorted((changes.get(credit, credit) for credit in scene.data.credits), key=by_account)
    return replace(scene.data, credits=tuple(credits), earnings=_earnings(earned))


PLANTS: Mapping[FraudKind, Plant] = {
    FraudKind.UNSORTED_RECEIPTS: _unsorted_receipts,
    FraudKind.BAD_RECEIPT: _bad_receipt,
    FraudKind.OVERLAP: _overlap,
    FraudKind.BAD_LINE: _bad_line,
    FraudKind.STRAY_LINE: _stray_line,
    FraudKind.DOUBLE_LINE: _double_line,
    FraudKind.BAD_SPLIT: _bad_split,
    FraudKind.WRONG_AUTHOR: _wrong_author,
    FraudKind.UNSORTED_ACCOUNTS: _unsorted_accounts,
    FraudKind.DECREASE: lambda scene: _moved(scene, lambda cumulative: cumulative - 1),
    FraudKind.DROPPED: lambda scene: _moved(scene, lambda cumulative: cumulative),
    FraudKind.WRONG_CUMULATIVE: lambda scene: _moved(scene, lambda _: 1),
    FraudKind.UNSORTED_CREDITS: _unsorted_credits,
    FraudKind.MISSING_CREDIT: _missing_credit,
    FraudKind.POOL_SUM: _pool_sum,
    FraudKind.WRONG_ACCOUNT: _wrong_account,
    FraudKind.OUTSIDE_LINEAGE: _outside_lineage,
}
