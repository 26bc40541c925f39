"""What becomes of an ask in a run: its record, and the attempts that gateways and workers pass on."""

from __future__ import annotations

from dataclasses import dataclass

from .workers import Job

COMPLETED = "completed"


@dataclass(slots=True, eq=False)
class Ask:
    """One ask's record, as its client sees it. Numbers are indices, times microseconds (-1: never); `outcome`
    is `completed` or the code it was given up with; `delivered` and `price` count over all its workers;
    `hedge` is an attempt beside the first.
    """

    number: int
    adapter: int
    payer: int
    prompt_tokens: int
    output_tokens: int
    arrived_us: int
    ask_id: int = 0
    outcome: str = ""
    attempt: Attempt | None = None
    hedge: Attempt | None = None
    attempts: int = 0
    worker: int = -1
    hit: bool = False
    began_us: int = -1
    first_us: int = -1
    done_us: int = -1
    delivered: int = 0
    price: int = 0

    def attempt_at(self, worker: int) -> Attempt | None:
        """The attempt under way at this worker."""
        both = (self.attempt, self.hedge)
        return next((each for each in both if each is not None and each.worker == worker), None)

    def drop(self, attempt: Attempt) -> None:
        """An attempt is over; the other one, if any, is the ask's from now on."""
        if attempt is self.attempt:
            self.attempt = self.hedge
        self.hedge = None


@dataclass(slots=True, eq=False)
class Attempt:
    """An ask at one worker: what remains of it when it is sent.

    `latency_us` is one way; `job` exists once the worker took it.
    """

    ask: Ask
    worker: int
    epoch: int
    prompt_tokens: int
    output_tokens: int
    max_price: int
    sent_us: int
    latency_us: int
    first_us: int = -1
    job: Job | None = None
