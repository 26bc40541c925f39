"""What the scheduler is told and what it orders: two closed unions of frozen records.

The driver (a peer, or a simulation) turns what happens into events, obeys the actions, and keeps one
timer: the latest `Wake`. An ask lives from `AskArrived` until `Completed`, `Cancelled` or `GiveUp`,
whichever is first. Two attempts of one ask run at once only where the driver's configuration allows hedges.
"""

from __future__ import annotations

from ..protocol.ids import Cid, PeerId
from .members import WorkerView
from .records import record

AskId = bytes | int
Prefix = tuple[bytes | int, int]
"""A name for the beginning of a prompt (with what a cache tells apart: base, adapters), and its tokens."""


@record(frozen=True, slots=True)
class AskSpec:
    """An answer wanted. `base` is the reference base, `adapters` its adapters, the heaviest first; tokens
    are estimates and bounds; `max_price` is for the whole answer, in token units; `only` (when not empty)
    and `excluded` name workers; `patience_ms` bounds the wait for a worker to appear, otherwise the
    deadline does. `client` is whose budget it comes out of; `prefixes` are what workers may have cached, the
    shortest first; `ttft_ms` is the time to the first token that would do."""

    ask_id: AskId
    base: Cid
    adapters: tuple[Cid, ...]
    prompt_tokens: int
    max_tokens: int
    max_price: int
    deadline_ms: int
    rank: int = 0
    artefact: Cid | None = None
    only: tuple[PeerId, ...] = ()
    excluded: tuple[PeerId, ...] = ()
    patience_ms: int | None = None
    client: str = ""
    prefixes: tuple[Prefix, ...] = ()
    ttft_ms: int | None = None


@record(frozen=True, slots=True)
class AdvertSeen:
    """A checked advert came in, by gossip or by asking."""

    worker: WorkerView


@record(frozen=True, slots=True)
class AskArrived:
    """Somebody wants an answer."""

    spec: AskSpec


@record(frozen=True, slots=True)
class Progress:
    """Output tokens arrived: `tokens` in total for this ask, from all its workers."""

    ask_id: AskId
    peer: PeerId
    tokens: int


@record(frozen=True, slots=True)
class Refused:
    """The worker declined with a `protocol.inference.messages.RefusalCode`; `retryable` is its word on
    whether another may accept."""

    ask_id: AskId
    peer: PeerId
    code: str
    retryable: bool = True


@record(frozen=True, slots=True)
class Failed:
    """The connection was lost or broke the protocol.

    `tokens` as in `Progress`; `spent` is what vouchers have paid so far.
    """

    ask_id: AskId
    peer: PeerId
    tokens: int = 0
    spent: int = 0


@record(frozen=True, slots=True)
class Completed:
    """The answer is whole. `tokens` are those of this worker; times run from its dispatch. `spent` is what
    the whole answer cost, all its workers together."""

    ask_id: AskId
    peer: PeerId
    ttft_ms: int
    total_ms: int
    tokens: int
    spent: int = 0


@record(frozen=True, slots=True)
class Cancelled:
    """Nobody wants the answer any more. `spent` as in `Completed`."""

    ask_id: AskId
    spent: int = 0


@record(frozen=True, slots=True)
class Judged:
    """A receipt or a proof of this worker was checked, by this peer or by an audit."""

    peer: PeerId
    passed: bool


@record(frozen=True, slots=True)
class Tick:
    """Time passed: the driver's answer to `Wake`."""


Event = AdvertSeen | AskArrived | Progress | Refused | Failed | Completed | Cancelled | Judged | Tick


@record(frozen=True, slots=True)
class Dispatch:
    """Send the ask to this worker.

    `attempt` counts from 1; `holds` says that its adapters are believed resident there. A `hedge` goes beside
    the attempt that is under way, until one of them has a token.
    """

    ask_id: AskId
    peer: PeerId
    attempt: int
    holds: bool
    hedge: bool = False


@record(frozen=True, slots=True)
class Abandon:
    """Abort the attempt at this worker: the other one was first. The ask goes on."""

    ask_id: AskId
    peer: PeerId


@record(frozen=True, slots=True)
class GiveUp:
    """The ask has failed for good: `code` as in `protocol.errors`, `message` for people.

    Abort what is under way for it.
    """

    ask_id: AskId
    code: str
    message: str


@record(frozen=True, slots=True)
class Wake:
    """Send `Tick` at this time; replaces any earlier `Wake`."""

    at_ms: int


@record(frozen=True, slots=True)
class Prefetch:
    """Suggest to this worker to load the adapter: its holders are full."""

    peer: PeerId
    adapter: Cid


Action = Dispatch | Abandon | GiveUp | Wake | Prefetch
