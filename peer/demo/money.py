"""The demo's last chapter: epochs are posted, everybody's claims are paid, and every unit is looked for.

The chain's clock is moved over each wait, and said so: nothing else about settlement is different.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from ...contracts.embedded.controls import advance
from ...protocol.errors import ChainError
from ...protocol.ids import Address, to_address
from ..settling.books import PaidAnswer, read_books
from .events import Answered, Began, Event, Finished, Paid, Told, Trained
from .plan import BOOTSTRAP, TRAINER, WORKERS

if TYPE_CHECKING:
    from .course import Stage

MARGIN_S = 5
"""Beyond the second from which something is allowed: the workers read the chain's time themselves."""
DEADLINE_S = 130
"""An epoch is redeemed when its requests' deadlines have passed too."""


def settle_and_claim(
    stage: Stage, trained: tuple[Trained, ...], answers: tuple[Answered, ...]
) -> Iterator[Event]:
    """Post the epoch of the answers and the one after it, claim, and close the books."""
    yield Began("The money: vouchers redeemed, epochs posted, claims paid")
    transactions: list[str] = []
    transactions += yield from _post(stage, "the answers' epoch")
    transactions += yield from _post(stage, "the next epoch, which carries what those answers earned")
    window = stage.network.deployment.window
    _jump(stage, window + MARGIN_S)
    yield Told("time", f"the demo moves the chain's clock over the claim window: {window} s")
    claims = yield from _claim(stage)
    yield _close(stage, trained, answers, tuple(transactions), claims)


def _post(stage: Stage, epoch: str) -> Generator[Event, None, list[str]]:
    """Move to the end of the present epoch and let both workers settle."""
    seconds = _seconds_to_epochs_end(stage)
    _jump(stage, seconds)
    yield Told("time", f"the demo moves the chain's clock over {epoch}: {seconds} s")
    posted: list[str] = []
    for name in WORKERS:
        report = stage.lines[name].post("/settle")
        if report["posted"]:
            posted.append(report["transactions"][-1])
            yield Told(name, _described(report))
            yield Told("", f"transaction {posted[-1]}")
        elif report["waiting"]:
            raise ChainError(f"{name} cannot settle: {report['waiting'][0]['reason']}")
    return posted


def _described(report: dict[str, Any]) -> str:
    """What a round of settlement did, in words."""
    (commitment,) = report["posted"]
    receipts = f"{commitment['receipt_count']} receipt{'s' if commitment['receipt_count'] != 1 else ''}"
    redeemed = f"redeemed {report['redeemed']} units, " if report["redeemed"] else ""
    return (
        f"{redeemed}posted epoch {commitment['epoch']}: {receipts} of {commitment['receipt_sum']} units,"
        f" earnings of {commitment['cumulative_total']} units"
    )


def _seconds_to_epochs_end(stage: Stage) -> int:
    """Until the present epoch, and any deadline in it, has passed."""
    deployment = stage.network.deployment
    with stage.network.client() as client:
        now = client.chain_time()
    ends = deployment.postable_at(deployment.epoch_at(now))
    return ends - now + DEADLINE_S + MARGIN_S


def _jump(stage: Stage, seconds: int) -> None:
    with stage.network.client() as client:
        advance(client.endpoint, seconds)


def _claim(stage: Stage) -> Generator[Event, None, tuple[Paid, ...]]:
    """Everybody claims what is theirs: workers, the trainer and its contributors, platform and work pool."""
    paid: list[Paid] = []
    for name in (*WORKERS, TRAINER, BOOTSTRAP):
        for claim in [*_settled_claims(stage, name), *stage.lines[name].post("/claim")]:
            account = to_address(claim["account"])
            paid.append(Paid(stage.names.get(account, claim["account"]), account, claim["amount"]))
    merged = _merged(paid)
    yield from merged
    return merged


def _settled_claims(stage: Stage, name: str) -> list[dict[str, Any]]:
    """What a worker's own round of settlement claims for it."""
    if name not in WORKERS:
        return []
    claimed: list[dict[str, Any]] = stage.lines[name].post("/settle")["claimed"]
    return claimed


def _merged(paid: list[Paid]) -> tuple[Paid, ...]:
    """One line an account, over all lanes."""
    amounts: dict[Address, int] = {}
    for claim in paid:
        amounts[claim.account] = amounts.get(claim.account, 0) + claim.amount
    names = {claim.account: claim.name for claim in paid}
    return tuple(Paid(names[account], account, amount) for account, amount in amounts.items())


def _close(
    stage: Stage,
    trained: tuple[Trained, ...],
    answers: tuple[Answered, ...],
    transactions: tuple[str, ...],
    claims: tuple[Paid, ...],
) -> Finished:
    lanes = [stage.network.peers[name].ready.session for name in WORKERS]
    with stage.network.client() as client:
        books = read_books(client, [_paid_answer(answer) for answer in answers], lanes, stage.names)
    return Finished(answers, trained, transactions, claims, stage.names, books, stage.seconds())


def _paid_answer(answer: Answered) -> PaidAnswer:
    credits: dict[Address, int] = {}
    for line in answer.credits:
        credits[line.account] = credits.get(line.account, 0) + line.amount
    return PaidAnswer(answer.price, credits)
