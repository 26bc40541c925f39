"""Money in integers: what an answer costs, and who earns which part of it.

Rules of this file:

- Amounts are whole token units. Nothing is lost and nothing appears: every division is by largest remainder
  and its parts sum to the whole.
- Largest remainder (Hamilton): each part gets floor(total · weight / Σ weights); the units left over go one
  each to the largest remainders, ties to the lowest key. The order of the parts does not matter.
- A price is divided among the roles by one split: the adapter's, of several adapters the heaviest's (ties to
  the lowest digest, as the chain has them), without an adapter the worker's `base_split`. What of it each
  adapter's pool has, `parts` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..content.compositions import AdapterWeight
from ..content.manifests import Split
from ..content.splits import check_split, parts_of
from ..errors import LocalProtocolError
from ..gossip.adverts import Rates
from ..ids import Address, Cid, digest_of
from .records import Credit, Receipt, Shares, Weight


@dataclass(frozen=True, slots=True)
class RolePayees:
    """The accounts behind the roles of one receipt; no author where no adapter was used."""

    platform: Address
    worker: Address
    author: Address | None
    work_pool: Address


def compute_price(rates: Rates, prompt_tokens: int, output_tokens: int, *, step: int = 0) -> int:
    """Token units for one receipt, rounded down. The request fee belongs to step 0 only.

    Floors never add up to more than the floor of the sum: steps cost no more than one receipt would.
    """
    metered = prompt_tokens * rates.prompt_per_1000 + output_tokens * rates.output_per_1000
    return metered // 1000 + (rates.request_fee if step == 0 else 0)


def apportion(total: int, weights: Sequence[int], keys: Sequence[bytes]) -> list[int]:
    """`total` divided in proportion to `weights` by largest remainder, ties to the lowest key.

    Raises LocalProtocolError where a number is negative or there is something to divide but no weight.
    """
    if len(weights) != len(keys) or total < 0 or min(weights, default=0) < 0:
        raise LocalProtocolError(
            "apportion needs a total and weights that are not negative, and a key per weight"
        )
    whole = sum(weights)
    if whole == 0:
        if total:
            raise LocalProtocolError(f"nobody has a weight to receive {total} token units")
        return [0] * len(weights)
    quotas = [divmod(total * weight, whole) for weight in weights]
    parts = [floor for floor, _ in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-quotas[i][1], keys[i]))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def compute_shares(price: int, split: Split) -> Shares:
    """The price divided among the roles, ties to the first. Raises RemoteProtocolError on a bad split."""
    check_split(split)
    parts = parts_of(split)
    return Shares(*apportion(price, parts, [bytes([role]) for role in range(len(parts))]))


def sum_shares(shares: Shares) -> int:
    """What the five amounts add up to: the price."""
    return shares.platform + shares.worker + shares.author + shares.work_pool + shares.contributors


def heaviest_adapter(adapters: Iterable[AdapterWeight]) -> Cid | None:
    """The adapter whose split divides an answer's price: ties to the lowest digest, None if none."""
    entries = tuple(adapters)
    most = max((entry.weight_ppm for entry in entries), default=0)
    tied = [entry.adapter for entry in entries if entry.weight_ppm == most]
    return min(tied, key=digest_of) if len(tied) > 1 else tied[0] if tied else None


def compute_credits(receipt: Receipt, payees: RolePayees, weights: Sequence[Weight]) -> tuple[Credit, ...]:
    """Who earns what from a receipt by one adapter, or none: roles first, then contributors by account. Sums
    to the price; of one by several adapters, `parts` has the parts.

    `weights` are the contributors' (an attribution's or the priors); an account that occurs twice is paid the
    sum. Raises LocalProtocolError where the shares are not the price, or a share has nobody to go to.
    """
    shares = receipt.shares
    if sum_shares(shares) != receipt.price:
        raise LocalProtocolError(f"shares add up to {sum_shares(shares)}, not to the price {receipt.price}")
    if len(receipt.adapters) > 1:
        raise LocalProtocolError(f"a receipt by {len(receipt.adapters)} adapters is credited by its parts")
    return divide_shares(shares, payees, weights)


def divide_shares(
    shares: Shares, payees: RolePayees, weights: Sequence[Weight], part: int | None = None
) -> tuple[Credit, ...]:
    """Who earns what of these amounts; `part` is their number where a receipt has several. Raises
    LocalProtocolError where an amount has nobody to go to.
    """
    if shares.author and payees.author is None:
        raise LocalProtocolError(f"the author's share of {shares.author} token units has no payee")
    roles = (
        (payees.platform, "platform", shares.platform),
        (payees.worker, "worker", shares.worker),
        (payees.author or payees.platform, "author", shares.author),
        (payees.work_pool, "work_pool", shares.work_pool),
    )
    whole = (*roles, *_contributor_amounts(shares.contributors, weights))
    return tuple(Credit(account, role, amount, part) for account, role, amount in whole if amount)


def _contributor_amounts(amount: int, weights: Sequence[Weight]) -> list[tuple[Address, str, int]]:
    ppm: dict[Address, int] = {}
    for weight in weights:
        ppm[weight.payee] = ppm.get(weight.payee, 0) + weight.ppm
    accounts = sorted(ppm)
    parts = apportion(amount, [ppm[account] for account in accounts], accounts)
    return [(account, "contributor", part) for account, part in zip(accounts, parts, strict=True)]
