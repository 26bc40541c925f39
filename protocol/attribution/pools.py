"""How a pool's contributors are paid: by statements on a drawn sample of its receipts. Integers only.

Rules of this file:

- A pool is the receipts of one adapter in one commitment of one lane, each with the adapter's part of it
  (`receipts.parts`); a receipt by several adapters is in the pool of each. Once they are committed, a later
  beacon draws some of them: all while they are few, then the `sample_size` whose
  SHA-256("commonlore/drawn/1" ‖ beacon ‖ receipt hash) is lowest. Nobody could know which, so what is not
  drawn need not be scored.
- A drawn receipt is scored by two attributors. Weights that lie within `TOLERANCE_PPM` (total variation)
  agree, and their mean counts; beyond that the receipt is disputed. One statement counts alone. Without a
  statement, or disputed, the manifest's priors apply to it. So they do where one of the two says that a row
  of the index is not its row's gradient (`challenges`): whether that is so anybody can recompute.
- Its own weights divide a drawn receipt; all others of the pool are divided by the mean of the drawn ones,
  each counting with its contributors' amount. The pool as a whole is so divided by that mean, every receipt's
  credits still add up to its price, and a receipt that was drawn shows what it paid.
- The mean is a ratio estimate from a simple random sample; its standard error is the usual one with the
  correction for a finite pool (Cochran, "Sampling techniques", 3rd ed., 6.4), zero where all were drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isqrt

from ..encoding.fields import PPM
from ..errors import LocalProtocolError
from ..ids import Address
from ..receipts.credits import apportion
from ..receipts.records import Weight

FEWEST_DRAWN = 10
"""Pools of so many receipts are drawn whole; of larger ones at least so many are."""
RATE_PPM = 10_000
"""Part of a large pool that is drawn; docs/attribution.md says what two statements on each cost."""
TOLERANCE_PPM = 10_000
"""Total variation up to which two attributors, or an attributor and who checks it, agree."""
ATTRIBUTORS = 2


class Basis(StrEnum):
    """Where a receipt's weights come from."""

    AGREED = "agreed"
    SINGLE = "single"
    DISPUTED = "disputed"
    CHALLENGED = "challenged"
    PRIOR = "prior"
    POOLED = "pooled"


@dataclass(frozen=True, slots=True)
class Judged:
    """A receipt's weights by the statements on it, and on what they rest."""

    weights: tuple[Weight, ...]
    basis: Basis


@dataclass(frozen=True, slots=True)
class PoolReceipt:
    """A receipt of a pool: its hash, its contributors' amount, and the weights stated on it, by attributor in
    the order drawn; `challenges` of the first two challenge their index."""

    receipt_hash: bytes
    amount: int
    stated: tuple[tuple[Weight, ...], ...] = ()
    challenges: int = 0


@dataclass(frozen=True, slots=True)
class PoolDivision:
    """A pool divided. `mean` sums to 1,000,000 ppm; `errors_ppm` is its standard error by account."""

    receipts: Mapping[bytes, Judged]
    mean: tuple[Weight, ...]
    errors_ppm: Mapping[Address, int]
    drawn: frozenset[bytes]
    disputed: frozenset[bytes]
    challenged: frozenset[bytes] = frozenset()

    @property
    def error_ppm(self) -> int:
        """The expected total variation of the mean from all receipts' weights, were they known: half the sum
        of the accounts' mean deviations, sqrt(2/π) of their standard errors."""
        return sum(self.errors_ppm.values()) * 399 // 1_000


def sample_size(receipts: int) -> int:
    """How many of a pool's receipts are drawn."""
    return min(receipts, max(FEWEST_DRAWN, -(-receipts * RATE_PPM // PPM)))


def draw_receipts(beacon: bytes, receipt_hashes: Collection[bytes]) -> frozenset[bytes]:
    """The receipts of a pool that are scored."""
    order = sorted(receipt_hashes, key=lambda each: _lot(b"drawn", beacon, each))
    return frozenset(order[: sample_size(len(order))])


def draw_attributors(
    beacon: bytes, receipt_hash: bytes, candidates: Collection[bytes], count: int = ATTRIBUTORS
) -> tuple[bytes, ...]:
    """Which of the candidates (Ed25519 keys) score a drawn receipt, in their order."""
    lots = sorted(set(candidates), key=lambda key: (_lot(b"attributor", beacon, receipt_hash, key), key))
    return tuple(lots[:count])


def draw_second(
    beacon: bytes, receipt_hash: bytes, owners: Mapping[bytes, Address], bonded: Collection[Address]
) -> bytes | None:
    """Who of the candidates (Ed25519 key → owner's account) scores a receipt beside its worker: only those
    whose owner has bonded as an attributor, where there are any; else anybody. None where there is nobody.

    The lot falls on an owner, then on one of its keys: keys cost nothing, and many would draw it to one bond.
    """
    behind = {owner for owner in owners.values() if owner in bonded} or set(owners.values())
    for owner in draw_attributors(beacon, receipt_hash, behind, 1):
        return draw_attributors(beacon, receipt_hash, [key for key in owners if owners[key] == owner], 1)[0]
    return None


def total_variation_ppm(a: Sequence[Weight], b: Sequence[Weight]) -> int:
    """Half the sum of differences, rounded up: the part of the money that would go elsewhere."""
    left, right = _by_payee(a), _by_payee(b)
    apart = sum(abs(left.get(payee, 0) - right.get(payee, 0)) for payee in left.keys() | right.keys())
    return -(-apart // 2)


def judge(stated: Sequence[tuple[Weight, ...]], priors: tuple[Weight, ...], challenges: int = 0) -> Judged:
    """What statements on one receipt make of it: the first two count, `challenges` of which challenge their
    index. Where one does and one does not, nothing of either is paid."""
    if challenges:
        unanimous = challenges >= len(stated[:ATTRIBUTORS])
        return Judged(judge(stated, priors).weights if unanimous else priors, Basis.CHALLENGED)
    if not stated:
        return Judged(priors, Basis.PRIOR)
    first, second = stated[0], stated[1] if len(stated) > 1 else None
    if second is None:
        return Judged(first, Basis.SINGLE)
    if total_variation_ppm(first, second) > TOLERANCE_PPM:
        return Judged(priors, Basis.DISPUTED)
    return Judged(_mean([(1, first), (1, second)]), Basis.AGREED)


def divide_pool(beacon: bytes, receipts: Sequence[PoolReceipt], priors: tuple[Weight, ...]) -> PoolDivision:
    """The weights of every receipt of a pool. Raises LocalProtocolError where one occurs twice."""
    by_hash = {receipt.receipt_hash: receipt for receipt in receipts}
    if len(by_hash) != len(receipts):
        raise LocalProtocolError("a receipt occurs twice in its pool")
    drawn = draw_receipts(beacon, by_hash)
    judged = {
        digest: judge(by_hash[digest].stated, priors, by_hash[digest].challenges) for digest in sorted(drawn)
    }
    paid = any(by_hash[digest].amount for digest in judged)
    sample = [(by_hash[digest].amount if paid else 1, each.weights) for digest, each in judged.items()]
    mean = _mean(sample) if sample else priors
    rest = {digest: Judged(mean, Basis.POOLED) for digest in by_hash if digest not in drawn}
    disputed, challenged = (
        frozenset(digest for digest, each in judged.items() if each.basis is basis)
        for basis in (Basis.DISPUTED, Basis.CHALLENGED)
    )
    errors = _standard_errors(sample, mean, len(receipts))
    return PoolDivision(judged | rest, mean, errors, drawn, disputed, challenged)


def _mean(parts: Sequence[tuple[int, tuple[Weight, ...]]]) -> tuple[Weight, ...]:
    """Weights averaged, each part counting with its amount, to exactly 1,000,000 ppm."""
    totals: dict[Address, int] = {}
    for amount, weights in parts:
        for payee, ppm in _by_payee(weights).items():
            totals[payee] = totals.get(payee, 0) + amount * ppm
    payees = sorted(totals)
    shares = apportion(PPM, [totals[payee] for payee in payees], payees)
    return tuple(Weight(payee, ppm) for payee, ppm in zip(payees, shares, strict=True) if ppm)


def _standard_errors(
    sample: Sequence[tuple[int, tuple[Weight, ...]]], mean: tuple[Weight, ...], receipts: int
) -> dict[Address, int]:
    """Of the mean, in ppm rounded down, by account; zeros where the sample is the pool."""
    size, amounts = len(sample), sum(amount for amount, _ in sample)
    middle = _by_payee(mean)
    if size == receipts or size < 2 or not amounts:
        return dict.fromkeys(middle, 0)
    found: dict[Address, int] = {}
    for payee in sorted(middle):
        squares = sum((a * (_by_payee(weights).get(payee, 0) - middle[payee])) ** 2 for a, weights in sample)
        found[payee] = isqrt((receipts - size) * size * squares // (receipts * (size - 1) * amounts**2))
    return found


def _by_payee(weights: Sequence[Weight]) -> dict[Address, int]:
    found: dict[Address, int] = {}
    for weight in weights:
        found[weight.payee] = found.get(weight.payee, 0) + weight.ppm
    return found


def _lot(kind: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(b"commonlore/" + kind + b"/1" + b"".join(parts)).digest()
