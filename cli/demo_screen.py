"""The demo's events as a person reads them, and its end as a program does."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..protocol.ids import checksummed
from .printing import aligned, console
from .progress import Advance, bars

if TYPE_CHECKING:
    from ..peer.demo.events import Answered, Event, Finished
    from ..peer.settling.books import Books

LABEL = 12


class Screen:
    """Shows events one after the other. A context manager: leaving it ends a bar that still moves."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._console = console(stderr=stderr)
        self._chapter = 0
        self._bars = ExitStack()
        self._advance: Advance | None = None
        self._in_text = False

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.close()

    def show(self, event: Event) -> None:
        """Print what an event tells."""
        from ..peer.demo import events as told

        if isinstance(event, told.Advanced):
            self._end_text()
            self._bar(event)
            return
        self._end_bars()
        match event:
            case told.Began():
                self._chapter += 1
                self._console.print(f"\n{self._chapter}  {event.title}", style="bold")
            case told.Told():
                self._line(event.name, event.text)
            case told.Trained():
                losses = f"held-out loss {event.loss_before:.2f} before, {event.loss_after:.2f} after"
                self._line(event.alias, f"{losses}; {event.weights_bytes:,} bytes, {event.adapter}")
            case told.Asked():
                self._console.print()
                self._line("question", event.question)
                self._console.print(f"   {event.adapter or 'base alone':<{LABEL}} ", end="")
            case told.Said():
                self._in_text = True
                self._console.out(_printable(event.text), end="", highlight=False)
            case told.Answered():
                self._answer(event)
            case told.Paid():
                self._line("claimed", f"{event.amount:>6,} by {event.name}")
            case told.Finished():
                self._finish(event)

    def _line(self, name: str, text: str) -> None:
        self._end_text()
        self._console.print(f"   {name:<{LABEL}} {text}", soft_wrap=True)

    def _bar(self, event: Any) -> None:
        if self._advance is None:
            self._advance = self._bars.enter_context(bars(self._console))
        self._advance(event.stage, event.done, event.total, event.detail)

    def _end_bars(self) -> None:
        self._bars.close()
        self._advance = None

    def _end_text(self) -> None:
        if self._in_text:
            self._console.print()
        self._in_text = False

    def _answer(self, answer: Answered) -> None:
        self._line("expected", f"{answer.expected}: {'right' if answer.right else 'wrong'}")
        if answer.fetch is not None:
            pulled = f"{answer.fetch.bytes:,} bytes in {answer.fetch.milliseconds / 1000:.1f} s"
            self._line(answer.worker, f"lacked the adapter: fetched by content id over libp2p, {pulled}")
        else:
            self._line(answer.worker, "answered")
        for receipt in answer.receipt_ids:
            self._line("receipt", f"{receipt}, {'verified' if answer.verified else 'NOT VERIFIED'}")
        shares = " + ".join(
            f"{role.replace('_', ' ')} {part}" for role, part in answer.shares.items() if part
        )
        self._line("price", f"{answer.price} = {shares}")
        credits = ", ".join(f"{c.name} {c.amount}" for c in answer.credits if c.role == "contributor")
        if credits:
            self._line("contributors", f"{credits} (by {answer.method})")

    def _finish(self, end: Finished) -> None:
        header = ["account", *(f"answer {number}" for number in range(1, len(end.answers) + 1))]
        lines = [[*header, "earned", "claimed", "balance"], *_rows(end)]
        self._console.print()
        for line in aligned(lines, [False] + [True] * (len(lines[0]) - 1), gap="   "):
            self._console.print(f"   {line}", soft_wrap=True)
        self._console.print()
        self._line("conserved", _sum(end.books))
        for difference in end.books.differences():
            self._line("DIFFERENCE", difference)
        self._line("time", f"{end.seconds:.0f} s")


def _rows(end: Finished) -> list[list[str]]:
    """A row an account with money, and one of totals."""
    rows = []
    for line in sorted(end.books.lines, key=lambda line: (-line.earned, line.account)):
        if line.earned or line.balance:
            amounts = [*line.credits, line.earned, line.claimed, line.balance]
            rows.append([end.names.get(line.account, ""), *(_amount(amount) for amount in amounts)])
    books = end.books
    prices = [answer.price for answer in books.answers]
    totals = [*prices, books.prices, books.claimed, sum(line.balance for line in books.lines)]
    return [*rows, ["total", *(_amount(amount) for amount in totals)]]


def _amount(amount: int) -> str:
    return f"{amount:,}" if amount else "."


def _sum(books: Books) -> str:
    held = sum(line.balance for line in books.lines)
    parts = f"escrow {books.escrow:,} + pots {books.settlement:,} + bonds {books.bonds:,} + balances {held:,}"
    if not books.conserved:
        return f"NO: {books.minted:,} were minted; {parts}"
    return f"yes, to the last unit: {books.minted:,} minted = {parts}; claims = credits = prices"


def _printable(text: str) -> str:
    """Text of a model without control characters, which could move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_json(end: Finished) -> dict[str, Any]:
    """The demo's outcome as one JSON object."""
    first = end.trained[0]
    fetches = [answer.fetch for answer in end.answers if answer.fetch is not None]
    return {
        "answers": [_answer_json(answer) for answer in end.answers],
        "adapter_fetches": [
            {"adapter": f.adapter, "worker": f.worker, "bytes": f.bytes, "milliseconds": f.milliseconds}
            for f in fetches
        ],
        "adapters": [
            {
                "alias": adapter.alias,
                "id": adapter.adapter,
                "heldout_loss_before": adapter.loss_before,
                "heldout_loss_after": adapter.loss_after,
            }
            for adapter in end.trained
        ],
        "heldout_loss_before": first.loss_before,
        "heldout_loss_after": first.loss_after,
        "epoch_tx": end.epoch_transactions[0],
        "epoch_txs": list(end.epoch_transactions),
        "claims": [
            {"account": checksummed(c.account), "name": c.name, "amount": c.amount} for c in end.claims
        ],
        "conserved": end.books.conserved,
        "seconds": round(end.seconds, 1),
    }


def _answer_json(answer: Answered) -> dict[str, Any]:
    return {
        "adapter": answer.adapter,
        "question": answer.question,
        "text": answer.text,
        "expected": answer.expected,
        "right": answer.right,
        "worker": answer.worker,
        "receipt_id": answer.receipt_ids[-1],
        "verified": answer.verified,
        "price": answer.price,
        "shares": dict(answer.shares),
        "credits": [
            {"account": checksummed(c.account), "name": c.name, "role": c.role, "amount": c.amount}
            for c in answer.credits
        ],
        "attribution": answer.method,
    }
