"""The kind `attribution`: who is paid how much, by the protocol's own arithmetic, and what tricks bring.

A contributor has rows, a lognormal number; a row's score for an answer is normal about `row_mean`. Scores are
summed by account, clipped at zero, divided to parts per million and paid out of the contributors' share of
the receipt's price: `protocol.attribution.scoring` and `protocol.receipts.credits` do that here as
everywhere. Contributor 0 tries a trick: `split` puts its rows on `accounts` accounts, evenly; `sort` knows
each row's usual worth and puts the better half apart; `copy` adds `copied` as many copies of others' rows as
it has rows, of which the representatives' rule misses `missed`; `wash` asks itself, with the worker and the
author its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from ...protocol.attribution.scoring import compute_weights
from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.splits import DEFAULT_SPLIT
from ...protocol.encoding.fields import PPM
from ...protocol.gossip.adverts import Rates
from ...protocol.ids import Address, cid_of
from ...protocol.receipts.credits import RolePayees, compute_credits, compute_price, compute_shares
from ...protocol.receipts.records import Credit, Receipt, Weight
from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import Floats, gini
from ..experiment.tables import above, between, one_of, within
from ..workload.arrivals import Stream, generator
from ..workload.people import BASE, PLATFORM, WORK_POOL, account

TRICKS = ("none", "split", "sort", "copy", "wash")
RATES = Rates(prompt_per_1000=1_000, output_per_1000=4_000, request_fee=10)
MOST_ROWS = 20_000_000
_ZERO_32 = bytes(32)
Accounts = list[tuple[Address, Floats]]
"""Each account and the usual scores of its rows."""


@dataclass(frozen=True, slots=True)
class Payouts:
    """A row's scores have mean `row_mean` and deviation `row_sigma`, of which `steadiness` (as a share of the
    variance) is the row's own and the rest the answer's. `subsidy` is paid on each receipt, by its price.
    """

    contributors: int = between(2, 100_000, 40)
    rows: float = above(0, 100_000, 60.0)
    rows_sigma: float = between(0, 5, 1.0)
    row_mean: float = between(-1_000_000, 1_000_000, 0.2)
    row_sigma: float = above(0, 1_000_000, 1.0)
    steadiness: float = between(0, 1, 0.3)
    receipts: int = between(1, 1_000_000, 400)
    prompt_tokens: int = between(0, 10_000_000, 200)
    output_tokens: int = between(1, 10_000_000, 100)
    trick: str = one_of(TRICKS, "none")
    accounts: int = between(1, 10_000, 4)
    copied: float = between(0, 1_000, 1.0)
    missed: float = between(0, 1, 0.0)
    subsidy: float = between(0, 1_000, 0.0)


@dataclass(frozen=True, slots=True)
class PayoutScenario:
    """Everything a run follows from, but the seed."""

    name: str
    about: str
    attribution: Payouts = field(default_factory=Payouts)


def check_payouts(scenario: PayoutScenario) -> None:
    """Raises WrongKey."""
    model = scenario.attribution
    mean = model.rows * math.exp(model.rows_sigma**2 / 2)
    within("attribution.rows", mean * model.contributors, MOST_ROWS, "rows")
    within("attribution.copied", model.copied * model.missed * model.rows, MOST_ROWS, "copies")


def run_payouts(scenario: PayoutScenario, seed: int) -> Outcome:
    """One arm with one seed; the same answers with the trick and without."""
    model = scenario.attribution
    honest_rows = _draw_rows(model, generator(seed, Stream.PEOPLE))
    plain = [(account("contributor", number), rows) for number, rows in enumerate(honest_rows)]
    mine, others = _play(model, honest_rows, generator(seed, Stream.CHOICES))
    before = _pay(model, plain, seed, wash=False)
    after = _pay(model, [*mine, *others], seed, wash=model.trick == "wash")
    names = [each for each, _ in mine]
    honest, gained = before.earned[plain[0][0]], sum(after.earned[each] for each in names)
    return Outcome(
        _summary(model, (before, after), (honest, gained)), {"lorenz": _lorenz(before, plain)}, model.receipts
    )


@dataclass(slots=True)
class Paid:
    """What came of all receipts: by account, by role, and the price of all."""

    earned: dict[Address, int]
    roles: dict[str, int]
    volume: int = 0
    fallbacks: int = 0

    def add(self, receipt: Receipt, credits: tuple[Credit, ...]) -> None:
        """Book a receipt."""
        self.volume += receipt.price
        for credit in credits:
            self.earned[credit.account] += credit.amount
            self.roles[credit.role] += credit.amount


def _draw_rows(model: Payouts, draw: np.random.Generator) -> list[Floats]:
    """The usual scores of each contributor's rows; contributor 0 has the median number."""
    counts = np.maximum(
        1, np.rint(model.rows * np.exp(model.rows_sigma * draw.standard_normal(model.contributors)))
    )
    usual = model.row_sigma * model.steadiness**0.5
    counts[0] = max(1, round(model.rows))
    return [model.row_mean + usual * draw.standard_normal(int(count)) for count in counts]


def _play(model: Payouts, rows: list[Floats], draw: np.random.Generator) -> tuple[Accounts, Accounts]:
    """The accounts of contributor 0 and of the others, after its trick."""
    others = [(account("contributor", number), each) for number, each in enumerate(rows) if number]
    own = rows[0]
    match model.trick:
        case "split":
            parts = np.array_split(own, model.accounts)
        case "sort":
            parts = [own[own >= np.median(own)], own[own < np.median(own)]]
        case "copy":
            pool = np.concatenate([each for _, each in others])
            copies = draw.choice(pool, round(model.copied * len(own) * model.missed))
            parts = [np.concatenate([own, copies])]
        case _:
            parts = [own]
    return [(account("attacker", number), part) for number, part in enumerate(parts) if len(part)], others


def _pay(model: Payouts, accounts: Accounts, seed: int, *, wash: bool) -> Paid:
    """Pay all receipts. An answer's own part of the scores is drawn by account, as the sum of its rows'."""
    draw = generator(seed, Stream.LENGTHS)
    paid = Paid(defaultdict(int), defaultdict(int))
    sums = np.array([rows.sum() for _, rows in accounts])
    sizes = np.array([len(rows) for _, rows in accounts])
    names = [name for name, _ in accounts]
    worker, author = (account("attacker", 0),) * 2 if wash else (account("owner", 0), account("author", 0))
    payees = RolePayees(PLATFORM, worker, author, WORK_POOL)
    priors = [Weight(name, part) for name, part in zip(names, _even(len(names)), strict=True)]
    for number in range(model.receipts):
        noise = model.row_sigma * (1 - model.steadiness) ** 0.5 * np.sqrt(sizes)
        scores = np.rint(1_000 * (sums + noise * draw.standard_normal(len(sums)))).astype(np.int64)
        weights = compute_weights(scores.tolist(), names)
        paid.fallbacks += weights is None
        receipt = _receipt(model, number)
        paid.add(receipt, compute_credits(receipt, payees, weights or priors))
    return paid


def _even(count: int) -> list[int]:
    return [PPM // count + (number < PPM % count) for number in range(count)]


def _receipt(model: Payouts, number: int) -> Receipt:
    price = compute_price(RATES, model.prompt_tokens, model.output_tokens)
    return Receipt(
        request_hash=_ZERO_32,
        payer=account("payer", 0),
        lane=account("lane", 0),
        seq=number + 1,
        epoch=0,
        step=0,
        artefact=BASE,
        adapters=(AdapterWeight(cid_of(b"adapter"), PPM),),
        prompt_tokens=model.prompt_tokens,
        output_tokens=model.output_tokens,
        output_root=_ZERO_32,
        price=price,
        shares=compute_shares(price, DEFAULT_SPLIT),
        details=_ZERO_32,
    )


def _summary(model: Payouts, paid: tuple[Paid, Paid], own: tuple[int, int]) -> dict[str, Scalar]:
    (before, after), (honest, gained) = paid, own
    pool = before.roles["contributor"]
    incomes = [amount for name, amount in before.earned.items() if _is_contributor(before, name)]
    returned = gained + model.subsidy * after.volume
    return {
        "gini": gini([*incomes, *[0] * (model.contributors - len(incomes))]),
        "share_honest": round(honest / pool, 6) if pool else 0.0,
        "share_with_trick": round(gained / pool, 6) if pool and model.trick != "wash" else 0.0,
        "trick_gain": round(gained / honest - 1, 6) if honest and model.trick != "wash" else 0.0,
        "roi": round(returned / after.volume - 1, 6) if model.trick == "wash" else 0.0,
        "fallbacks": before.fallbacks,
        "volume": before.volume,
        "conserved": int(all(sum(each.earned.values()) == each.volume for each in paid)),
    }


def _is_contributor(paid: Paid, name: Address) -> bool:
    return name not in (PLATFORM, WORK_POOL, account("owner", 0), account("author", 0))


def _lorenz(paid: Paid, accounts: Accounts) -> dict[str, list[float]]:
    """Shares of contributors, the poorest first, and of what they earn together."""
    incomes = np.sort([paid.earned[name] for name, _ in accounts]).cumsum()
    whole = max(1, int(incomes[-1]))
    return {
        "contributors": [round(number / len(incomes), 6) for number in range(len(incomes) + 1)],
        "earned": [0.0, *(round(int(each) / whole, 6) for each in incomes)],
    }


KIND = Kind(
    name="attribution",
    config=PayoutScenario,
    run=run_payouts,
    check=check_payouts,
    columns=("gini", "share_honest", "share_with_trick", "trick_gain", "roi", "fallbacks", "conserved"),
    figures=Figures(
        panels=(
            Panel("what the trick adds to honest pay", ("trick_gain",), "gain", sparse=True),
            Panel("return of a wash trade", ("roi",), "gain", sparse=True),
            Panel("Gini coefficient of honest pay", ("gini",)),
        ),
        curve=("lorenz", "contributors", "earned"),
        curve_title="Lorenz curve of honest pay",
    ),
)
