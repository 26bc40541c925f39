"""Frauds in earnings and credits: see `frauds`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from ..content.lineage import Lineage
from ..ids import Address
from .commitments import EpochTrees
from .epoch_leaves import ROLES, PoolCredit, by_account, by_pool
from .frauds import Fraud, FraudKind, Posted, Served
from .openings import (
    CreditOpening,
    EarningsOpening,
    LineOpening,
    gap_of,
    open_credit,
    open_earning,
    open_line,
    open_receipt,
    span_of,
)


def find_earnings_frauds(posted: Posted) -> Iterator[Fraud]:
    """All of them, one kind after the other. Sums are judged only where the order holds: a search in what is
    not sorted shows nothing."""
    order = [*_unsorted_accounts(posted), *_unsorted_credits(posted)]
    yield from order
    if not order:
        yield from _missing_credits(posted)
        yield from _wrong_accounts(posted)
        yield from _outside_lineage(posted)
        yield from _pool_sums(posted)
        yield from _wrong_earnings(posted)


# ---- order


def _unsorted_accounts(posted: Posted) -> Iterator[Fraud]:
    trees = posted.current
    accounts = trees.accounts
    for i in range(len(accounts) - 1):
        if accounts[i + 1] <= accounts[i]:
            pair = (open_earning(trees, i), open_earning(trees, i + 1))
            said = f"accounts {i} and {i + 1} are out of order"
            yield posted.fraud(FraudKind.UNSORTED_ACCOUNTS, said, trees.commitment, *pair)


def _unsorted_credits(posted: Posted) -> Iterator[Fraud]:
    trees = posted.current
    orders = (
        (False, [by_account(credit) for credit in trees.account_credits]),
        (True, [by_pool(credit) for credit in trees.pool_credits]),
    )
    for is_by_pool, keys in orders:
        for i in range(len(keys) - 1):
            if keys[i + 1] <= keys[i]:
                pair = (open_credit(trees, is_by_pool, i), open_credit(trees, is_by_pool, i + 1))
                said = f"credits {i} and {i + 1} are out of order"
                yield posted.fraud(
                    FraudKind.UNSORTED_CREDITS, said, posted.before, trees.commitment, is_by_pool, *pair
                )


# ---- credits


def _missing_credits(posted: Posted) -> Iterator[Fraud]:
    trees = posted.current
    one, other = set(trees.account_credits), set(trees.pool_credits)
    pool_keys = [by_pool(credit) for credit in trees.pool_credits]
    account_keys = [by_account(credit) for credit in trees.account_credits]
    for index, credit in enumerate(trees.account_credits):
        if credit not in other:
            gap = _around(pool_keys, by_pool(credit), trees, True)
            yield _missing(posted, False, open_credit(trees, False, index), gap)
    for index, credit in enumerate(trees.pool_credits):
        if credit not in one:
            gap = _around(account_keys, by_account(credit), trees, False)
            yield _missing(posted, True, open_credit(trees, True, index), gap)


def _missing(posted: Posted, by_pool: bool, has: CreditOpening, gap: tuple[CreditOpening, ...]) -> Fraud:
    said = f"a credit of {has.credit.amount} is in one order only"
    return posted.fraud(
        FraudKind.MISSING_CREDIT, said, posted.before, posted.current.commitment, by_pool, has, gap
    )


def _around(keys: Sequence[bytes], key: bytes, trees: EpochTrees, by_pool: bool) -> tuple[CreditOpening, ...]:
    """A key's gap, or the one credit that has the key with another amount."""
    place = bisect_left(keys, key)
    if place < len(keys) and keys[place] == key:
        return (open_credit(trees, by_pool, place),)
    return gap_of(keys, key, lambda index: open_credit(trees, by_pool, index))


def _wrong_accounts(posted: Posted) -> Iterator[Fraud]:
    """Roles that have one account: the platform's, the worker's, the author's, the work pool's."""
    lines = _last_lines(posted.previous)
    for index, credit in enumerate(posted.current.pool_credits):
        line = lines.get(credit.pool)
        if _is_due(posted, credit, line):
            continue
        said = f"credit {index} goes to an account that its role does not belong to"
        opened = open_credit(posted.current, True, index)
        needed = (line,) if line is not None and credit.role == ROLES.index("author") else ()
        yield posted.fraud(
            FraudKind.WRONG_ACCOUNT, said, posted.before, posted.current.commitment, opened, needed
        )


def _is_due(posted: Posted, credit: PoolCredit, line: LineOpening | None) -> bool:
    """Whether a credit's account is one that its role may belong to. Where no line is, a sum is wrong."""
    facts = posted.facts
    if credit.role >= len(ROLES) or not credit.amount:
        return False
    match ROLES[credit.role]:
        case "platform":
            return credit.account == facts.platform
        case "worker":
            return credit.account in facts.workers
        case "author":
            return line is None or credit.account == line.line.author
        case "work_pool":
            return credit.account == facts.work_pool
        case _:
            return True


def _outside_lineage(posted: Posted) -> Iterator[Fraud]:
    bound = _bound_pools(posted)
    for index, credit in enumerate(posted.current.pool_credits):
        if credit.role != ROLES.index("contributor") or credit.pool not in bound:
            continue
        lineage, served = bound[credit.pool]
        if not lineage.has(credit.account):
            said = f"0x{credit.account.hex()} is no contributor of the adapter that it is paid for"
            shown = (open_credit(posted.current, True, index), served)
            gaps = (lineage.ancestry, lineage.gaps(credit.account))
            before, commitment = posted.before, posted.current.commitment
            yield posted.fraud(FraudKind.OUTSIDE_LINEAGE, said, before, commitment, *shown, *gaps)


def _bound_pools(posted: Posted) -> dict[bytes, tuple[Lineage, Served]]:
    """The pools that pay by a lineage that is known, with a receipt that was served after it was
    registered."""
    trees, found = posted.previous, dict[bytes, tuple[Lineage, Served]]()
    places = {} if trees is None else {bytes(each.receipt_id): i for i, each in enumerate(trees.receipts)}
    for index, line in enumerate(trees.lines if trees else ()):
        known, place = posted.facts.adapters.get(line.pool), places.get(line.receipt_id)
        if trees is None or place is None or line.pool in found or known is None or known.lineage is None:
            continue
        if posted.facts.is_bound(line.pool, trees.receipts[place].receipt.epoch):
            served = Served(open_line(trees, index), open_receipt(trees, place))
            found[line.pool] = (known.lineage, served)
    return found


def _pool_sums(posted: Posted) -> Iterator[Fraud]:
    """Each role of each pool gets what the receipts before gave it. A pool without receipts needs no proof:
    what it gets is missing in another."""
    trees, lines = posted.current, _last_lines(posted.previous)
    keys = [(credit.pool, credit.role) for credit in trees.pool_credits]
    for pool, line in sorted(lines.items()):
        for role, total in enumerate(line.line.totals):
            low, high = bisect_left(keys, (pool, role)), bisect_right(keys, (pool, role))
            given = sum(credit.amount for credit in trees.pool_credits[low:high])
            if given != total:
                said = f"the {ROLES[role]} credits of a pool are {given}, not {total}"
                shown = (_end_of_pool(posted.previous, line), span_of(trees, True, low, high))
                yield posted.fraud(FraudKind.POOL_SUM, said, posted.before, trees.commitment, role, *shown)


def _last_lines(previous: EpochTrees | None) -> dict[bytes, LineOpening]:
    """Each pool's last line."""
    if previous is None:
        return {}
    last = {line.pool: index for index, line in enumerate(previous.lines)}
    return {pool: open_line(previous, index) for pool, index in last.items()}


def _end_of_pool(previous: EpochTrees | None, line: LineOpening) -> tuple[LineOpening, ...]:
    """A pool's last line and the line after it, if there is one."""
    if previous is None or line.index + 1 == len(previous.lines):
        return (line,)
    return (line, open_line(previous, line.index + 1))


# ---- earnings


def _wrong_earnings(posted: Posted) -> Iterator[Fraud]:
    """Every account has what it had and its credits."""
    trees = posted.current
    had = {} if posted.previous is None else posted.previous.earnings
    has = trees.earnings
    credited: dict[Address, int] = {}
    for credit in trees.account_credits:
        credited[credit.account] = credited.get(credit.account, 0) + credit.amount
    for account in sorted({*had, *has, *credited}):
        due = had.get(account, 0) + credited.get(account, 0)
        if has.get(account, 0) != due:
            yield _wrong_cumulative(posted, account, due)


def _wrong_cumulative(posted: Posted, account: Address, due: int) -> Fraud:
    """The cheapest proof: an account that had more, or is gone, needs no credits."""
    before, now = _earning(posted.previous, account), _earning(posted.current, account)
    trees, has = posted.current, posted.current.earnings.get(account, 0)
    said = f"0x{account.hex()} has {has} in all where {due} are due"
    had = before[0].cumulative if before and before[0].account == account else 0
    if had and not has:
        return posted.fraud(FraudKind.DROPPED, said, posted.before, before[0], trees.commitment, now)
    if has < had:
        return posted.fraud(FraudKind.DECREASE, said, posted.before, before[0], trees.commitment, now[0])
    accounts = [credit.account for credit in trees.account_credits]
    credits = span_of(trees, False, bisect_left(accounts, account), bisect_right(accounts, account))
    return posted.fraud(
        FraudKind.WRONG_CUMULATIVE, said, posted.before, trees.commitment, account, before, now, credits
    )


def _earning(trees: EpochTrees | None, account: Address) -> tuple[EarningsOpening, ...]:
    """An account's leaf, or its gap."""
    if trees is None:
        return ()
    accounts = trees.accounts
    place = bisect_left(accounts, account)
    if place < len(accounts) and accounts[place] == account:
        return (open_earning(trees, place),)
    return gap_of(accounts, account, lambda index: open_earning(trees, index))
