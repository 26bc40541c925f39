"""What this peer itself has lived through with a worker: asks under way, speed, success, and whether what it
announces proves true.

Rules of this file: integers only (parts per million, microseconds, milliseconds), so that every machine
computes alike; old evidence fades, so that nobody is condemned or trusted for ever, and nobody falls below a
floor from which there is a way back. A worker that is busy has not failed: it only wants a pause. What a
worker announces of others' asks is believed less and less as it ages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..protocol.ids import Cid, PeerId

if TYPE_CHECKING:
    from .members import Member

PPM = 1_000_000
PRIOR_SUCCESS_PPM = 950_000
EVIDENCE_HALF_LIFE_MS = 600_000
TRUST_HALF_LIFE_MS = 6 * 3_600_000
"""How long it takes until half of what a failed audit cost is forgiven."""
WORTH_FLOOR_PPM = 10_000
FAILURES_TO_BAN = 3
BAN_MS = 15_000
MAX_BAN_MS = 600_000
BUSY_PAUSE_MS = 200
MAX_BUSY_PAUSE_MS = 5_000
DEFAULT_TOKEN_US = 20_000
FOREIGN_FRESH_MS = 5_000
FOREIGN_LIFE_MS = 30_000
"""What an advert counted beside our own asks is believed whole while it is fresh, then less and less, and
after its life not at all."""
MAX_PAST = 64
MOST_LAG_US = 60_000_000
_SUCCESS_INERTIA = 8
_FAILURE_INERTIA = 4
_TRUST_INERTIA = 8
_LAG_INERTIA = 4
_LOOKED_AT = 8
"""So many records are looked at for each new one once there are too many."""


class Standing:
    """One worker's record.

    `outstanding` are our asks there, `foreign` those of others by its newest advert; `token_us` is the
    observed time of an output token, `lag_us` how much later than expected its first tokens come; `past` are
    adapters it once held; `not_before_ms` ends its ban or pause; `worth_ppm` is how likely it is to deliver
    honestly, as of the last evidence; `member` is the worker itself while it is in the view.
    """

    __slots__ = (
        "_advertised_ms",
        "_busy",
        "_failures",
        "_judged_ms",
        "_success_ppm",
        "_trust_ppm",
        "_trusted_ms",
        "foreign",
        "lag_us",
        "member",
        "not_before_ms",
        "outstanding",
        "past",
        "token_us",
        "worth_ppm",
    )

    def __init__(self) -> None:
        self.outstanding = 0
        self.foreign = 0
        self.token_us = DEFAULT_TOKEN_US
        self.lag_us = 0
        self.not_before_ms = 0
        self.worth_ppm = PRIOR_SUCCESS_PPM
        self.member: Member | None = None
        self.past: dict[Cid, None] = {}
        self._advertised_ms = 0
        self._success_ppm = PRIOR_SUCCESS_PPM
        self._judged_ms = 0
        self._trust_ppm = PPM
        self._trusted_ms = 0
        self._failures = 0
        self._busy = 0

    @property
    def is_banned(self) -> bool:
        """Whether failures, not load, are why it is left alone."""
        return self._failures >= FAILURES_TO_BAN

    @property
    def is_blank(self) -> bool:
        """Whether forgetting it loses nothing."""
        return not (self.outstanding or self._judged_ms or self._trusted_ms or self._busy)

    def load_at(self, now_ms: int) -> int:
        """Asks believed on it: our own, and what is still believed of its advert."""
        if not self.foreign:
            return self.outstanding
        age_ms = now_ms - self._advertised_ms
        if age_ms <= FOREIGN_FRESH_MS:
            return self.outstanding + self.foreign
        left_ms = max(0, FOREIGN_LIFE_MS - age_ms)
        return self.outstanding + self.foreign * left_ms // (FOREIGN_LIFE_MS - FOREIGN_FRESH_MS)

    def advertised(self, now_ms: int, asks: int) -> None:
        """A newer advert counts so many asks there, ours among them."""
        self.foreign = max(0, asks - self.outstanding)
        self._advertised_ms = now_ms

    def kept(self, adapter: Cid) -> Cid | None:
        """It holds an adapter: it need not fetch it again. Returns the one that it is to be forgotten for."""
        self.past.pop(adapter, None)
        self.past[adapter] = None
        if len(self.past) <= MAX_PAST:
            return None
        dropped = next(iter(self.past))
        del self.past[dropped]
        return dropped

    def succeeded(self, now_ms: int, decode_ms: int, tokens: int) -> None:
        """An answer came: `tokens` after the first one, in `decode_ms`."""
        self._failures = self._busy = 0
        if self._trust_ppm == PPM and now_ms >= self._judged_ms:  # nearly always: as `_judge`, in fewer steps
            fading_ms = EVIDENCE_HALF_LIFE_MS + now_ms - self._judged_ms
            evidence = self._success_ppm - PRIOR_SUCCESS_PPM
            current = PRIOR_SUCCESS_PPM + evidence * EVIDENCE_HALF_LIFE_MS // fading_ms
            self._success_ppm = self.worth_ppm = current + (PPM - current) // _SUCCESS_INERTIA
            self._judged_ms = now_ms
        else:
            self._judge(now_ms, PPM, _SUCCESS_INERTIA)
        if tokens > 0:
            self.token_us += (max(1, decode_ms * 1000 // tokens) - self.token_us) // 4

    def learn_lag(self, late_us: int) -> None:
        """A first token came `late_us` later than was expected of its announcements and our own asks there;
        earlier, if negative. So an announcement that is too good to be true soon counts for little."""
        self.lag_us += (min(late_us, MOST_LAG_US) - self.lag_us) // _LAG_INERTIA

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

    def audited(self, now_ms: int, *, passed: bool) -> None:
        """A receipt of it was checked, by this peer or by an audit: a failure costs three quarters of the
        trust, a success brings back an eighth of what is missing."""
        trust_ppm = self.trust_ppm(now_ms)
        self._trust_ppm = trust_ppm + (PPM - trust_ppm) // _TRUST_INERTIA if passed else trust_ppm // 4
        self._trusted_ms = now_ms
        self.worth_ppm = self._worth(now_ms)

    def success_ppm(self, now_ms: int) -> int:
        """How likely it is to deliver, in parts per million: a moving average that fades to the prior."""
        age_ms = max(0, now_ms - self._judged_ms)
        evidence = self._success_ppm - PRIOR_SUCCESS_PPM
        return PRIOR_SUCCESS_PPM + evidence * EVIDENCE_HALF_LIFE_MS // (EVIDENCE_HALF_LIFE_MS + age_ms)

    def trust_ppm(self, now_ms: int) -> int:
        """How far its receipts are believed, in parts per million: all of it until an audit fails."""
        age_ms = max(0, now_ms - self._trusted_ms)
        return PPM - (PPM - self._trust_ppm) * TRUST_HALF_LIFE_MS // (TRUST_HALF_LIFE_MS + age_ms)

    def worth_at(self, now_ms: int) -> int:
        """Success times trust, never below the floor. A good record needs no time to fade."""
        if self.worth_ppm >= PRIOR_SUCCESS_PPM:
            return self.worth_ppm
        return self._worth(now_ms)

    def _worth(self, now_ms: int) -> int:
        return max(WORTH_FLOOR_PPM, self.success_ppm(now_ms) * self.trust_ppm(now_ms) // PPM)

    def _judge(self, now_ms: int, outcome_ppm: int, inertia: int) -> None:
        current = self.success_ppm(now_ms)
        self._success_ppm = current + (outcome_ppm - current) // inertia
        self._judged_ms = now_ms
        self.worth_ppm = self._worth(now_ms)


class Standings:
    """Everybody's record, at most `limit` of them beside those of workers in the view or busy for us."""

    __slots__ = ("_limit", "_records")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: OrderedDict[PeerId, Standing] = OrderedDict()  # the first was looked at longest ago

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[PeerId]:
        return iter(self._records)

    def get(self, peer: PeerId) -> Standing | None:
        """The record of `peer`, where there is one."""
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
        """Look at a few, and forget those that nobody needs: records of workers that go are met in turn."""
        for _ in range(min(_LOOKED_AT, len(self._records))):
            peer = next(iter(self._records))
            standing = self._records[peer]
            if standing.member is not None or standing.outstanding:
                self._records.move_to_end(peer)
            elif len(self._records) >= self._limit:
                del self._records[peer]
