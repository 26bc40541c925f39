"""What this peer itself has lived through with a worker: asks under way, speed, success and the bans that
follow failures.

Rules of this file: integers only (parts per million, microseconds, milliseconds), so that every machine
computes alike; old evidence fades, so that nobody is condemned or trusted for ever. A worker that is busy
has not failed: it only wants a pause.
"""

from __future__ import annotations

from ..protocol.ids import PeerId
from .view import NetworkView, WorkerView

PPM = 1_000_000
PRIOR_SUCCESS_PPM = 950_000
EVIDENCE_HALF_LIFE_MS = 600_000
FAILURES_TO_BAN = 3
BAN_MS = 15_000
MAX_BAN_MS = 600_000
BUSY_PAUSE_MS = 200
MAX_BUSY_PAUSE_MS = 5_000
DEFAULT_TOKEN_US = 20_000
_SUCCESS_INERTIA = 8
_FAILURE_INERTIA = 4


class Standing:
    """One worker's record.

    `token_us` is the observed time of an output token; `not_before_ms` ends its ban or pause.
    """

    __slots__ = (
        "_advertised",
        "_busy",
        "_change",
        "_failures",
        "_judged_ms",
        "_success_ppm",
        "not_before_ms",
        "outstanding",
        "token_us",
    )

    def __init__(self) -> None:
        self.outstanding = 0
        self.token_us = DEFAULT_TOKEN_US
        self.not_before_ms = 0
        self._advertised = 0
        self._change = 0
        self._success_ppm = PRIOR_SUCCESS_PPM
        self._judged_ms = 0
        self._failures = 0
        self._busy = 0

    @property
    def load(self) -> int:
        """Asks believed on it: those of its advert and the change by our own since; at least our own."""
        return max(self.outstanding, self._advertised + self._change)

    @property
    def is_banned(self) -> bool:
        """Whether failures, not load, are why it is left alone."""
        return self._failures >= FAILURES_TO_BAN

    @property
    def is_blank(self) -> bool:
        """Whether forgetting it loses nothing."""
        return not (self.outstanding or self._judged_ms or self._busy)

    def advertised(self, worker: WorkerView) -> None:
        """A newer advert: it counted everything until now."""
        self._advertised = worker.queue_depth + worker.running
        self._change = 0

    def dispatched(self) -> None:
        """One of our asks goes there."""
        self.outstanding += 1
        self._change += 1

    def ended(self) -> None:
        """One of our asks is no longer there, however it ended."""
        self.outstanding -= 1
        self._change -= 1

    def succeeded(self, now_ms: int, decode_ms: int, tokens: int) -> None:
        """An answer came: `tokens` after the first one, in `decode_ms`."""
        self._judge(now_ms, PPM, _SUCCESS_INERTIA)
        self._failures = self._busy = 0
        if tokens > 0:
            self.token_us += (max(1, decode_ms * 1000 // tokens) - self.token_us) // 4

    def failed(self, now_ms: int) -> None:
        """It broke off, or declined what it should have served; failures in a row ban it, twice as long
        each time."""
        if now_ms - self._judged_ms > EVIDENCE_HALF_LIFE_MS:
            self._failures = 0
        self._judge(now_ms, 0, _FAILURE_INERTIA)
        self._failures += 1
        excess = self._failures - FAILURES_TO_BAN
        if excess >= 0:
            self.not_before_ms = now_ms + min(BAN_MS << min(excess, 16), MAX_BAN_MS)

    def busy(self, now_ms: int) -> None:
        """It is full: leave it alone for a moment, longer each time."""
        pause_ms = min(BUSY_PAUSE_MS << min(self._busy, 16), MAX_BUSY_PAUSE_MS)
        self._busy += 1
        self.not_before_ms = max(self.not_before_ms, now_ms + pause_ms)

    def success_ppm(self, now_ms: int) -> int:
        """How likely it is to deliver, in parts per million, at least 1: a moving average that fades
        towards the prior."""
        age_ms = max(0, now_ms - self._judged_ms)
        evidence = self._success_ppm - PRIOR_SUCCESS_PPM
        return max(
            1, PRIOR_SUCCESS_PPM + evidence * EVIDENCE_HALF_LIFE_MS // (EVIDENCE_HALF_LIFE_MS + age_ms)
        )

    def _judge(self, now_ms: int, outcome_ppm: int, inertia: int) -> None:
        current = self.success_ppm(now_ms)
        self._success_ppm = current + (outcome_ppm - current) // inertia
        self._judged_ms = now_ms


class Standings:
    """Everybody's record, at most `limit` of them beside those of workers in the view or busy for us."""

    __slots__ = ("_limit", "_records", "_view")

    def __init__(self, limit: int, view: NetworkView) -> None:
        self._limit = limit
        self._view = view
        self._records: dict[PeerId, Standing] = {}

    def get(self, peer: PeerId) -> Standing | None:
        return self._records.get(peer)

    def of(self, peer: PeerId) -> Standing:
        """The record of `peer`, a fresh one where there is none."""
        standing = self._records.get(peer)
        if standing is None:
            if len(self._records) >= self._limit:
                self._make_room()
            standing = self._records[peer] = Standing()
        return standing

    def forget_blank(self, peer: PeerId) -> None:
        """Drop a record that says nothing; bans outlive a worker's silence."""
        standing = self._records.get(peer)
        if standing is not None and standing.is_blank:
            del self._records[peer]

    def _make_room(self) -> None:
        for peer in list(self._records)[: self._limit // 2]:
            if self._view.get(peer) is None and not self._records[peer].outstanding:
                del self._records[peer]
