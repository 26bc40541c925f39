"""Indexes watched: every one that was committed on the chain is added up again while it can be challenged.

Rules of this file:

- An index is judged once, from what was published under the commitment's own digest; a proof is sent as soon
  as something is found.
- Only what an adapter's author committed is looked at, an author that registered it: nobody goes by anything
  else, and whoever pleases may commit to what nobody has.
- What cannot be had yet is looked for in each round, as long as the window lasts. Where what was published is
  not what was committed nothing can be shown: it is said, as nobody should go by it.
- Whatever stands in the way of one index keeps no other waiting, nor the lanes: strangers publish what is
  read here, as slowly as they like. What was looked for least often comes first.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from ...contracts.calling.endpoint import Rejected
from ...contracts.client.chain import ChainClient
from ...protocol.attribution.index_frauds import IndexFraud, find_index_fraud
from ...protocol.attribution.index_trees import IndexCommitment, PublishedIndex
from ...protocol.errors import ChainError, CommonloreError, RemoteProtocolError
from ...protocol.ids import checksummed
from ...protocol.settlement.epoch_leaves import pool_of
from ..settling.claiming import on_chain
from .demands import IndexAct, WatchReport

log = logging.getLogger(__name__)
ReadPublished = Callable[[IndexCommitment], Awaitable[PublishedIndex]]
"""What was published under a commitment's digest. Raises NotFound, Unreachable, RemoteProtocolError,
InvalidSignature."""
READ_PATIENCE_S = 60.0
"""How long is waited in a round for what was published of one index."""
LOOK_PATIENCE_S = 300.0
"""The same of all of them: the lanes are watched by the same rounds."""


class IndexWatch:
    """Watches all committed indexes. Its account pays for challenges and is rewarded for them."""

    def __init__(self, client: ChainClient, read: ReadPublished) -> None:
        self._client = client
        self._read = read
        self._judged: set[IndexCommitment] = set()
        self._tried: Counter[IndexCommitment] = Counter()

    async def look(self, report: WatchReport) -> None:
        """One round over all indexes that can be challenged. Raises Unreachable, ChainError where the chain
        itself does not answer."""
        until = trio.current_time() + LOOK_PATIENCE_S
        for commitment in await on_chain(self._standing):
            if trio.current_time() > until:
                report.waiting.append("more indexes are judged in the next round")
                return
            is_open = report.chain_time < await on_chain(self._client.indexes.open_until, commitment)
            if not is_open or await self._try(commitment, report):
                self._judged.add(commitment)

    def _standing(self) -> list[IndexCommitment]:
        """What authors committed of their registered adapters and is not judged, what was tried least often
        first. Blocking."""
        registered = self._client.registrations.adapters()
        made = [each.commitment for each in self._client.indexes.all() if not each.killed]
        counting = [each for each in made if pool_of(each.maker, each.adapter) in registered]
        due = [each for each in counting if each not in self._judged]
        return sorted(due, key=lambda each: self._tried[each])

    async def _try(self, commitment: IndexCommitment, report: WatchReport) -> bool:
        """Whether an index was judged, and what is wrong with it was proved."""
        named = f"index {commitment.manifest.hex()[:16]} of {checksummed(commitment.maker)}"
        self._tried[commitment] += 1
        try:
            with trio.fail_after(READ_PATIENCE_S):
                published = await self._read(commitment)
            fraud = await trio.to_thread.run_sync(find_index_fraud, commitment, published)
        except trio.TooSlowError:
            report.waiting.append(f"{named}: it did not come within {READ_PATIENCE_S:g} s")
            return False
        except RemoteProtocolError as error:
            report.doubts.append(f"{named}: {error}")
        except CommonloreError as error:
            report.waiting.append(f"{named}: {error}")
            return False
        except Exception:  # a defect, which one index brought out: the others are watched
            report.waiting.append(f"{named} cannot be judged; see the log")
            log.exception("judging failed", extra={"index": commitment.manifest.hex()})
        else:
            if fraud is not None and not await self._challenge(commitment, fraud, report):
                return False
        report.indexes += 1
        return True

    async def _challenge(self, commitment: IndexCommitment, fraud: IndexFraud, report: WatchReport) -> bool:
        """Whether nothing is left to be done: the proof was taken, or is not wanted."""
        try:
            sent = await on_chain(self._client.indexes.prove, commitment, fraud)
        except ChainError as refused:  # no gas, say; who was faster is no failure
            report.waiting.append(f"index {commitment.manifest.hex()[:16]}: {fraud.said}: {refused}")
            return isinstance(refused, Rejected)
        act = IndexAct(fraud.kind, commitment.maker, commitment.manifest, fraud.said, sent.text)
        report.index_acts.append(act)
        log.warning("proved that an index is wrong: %s", fraud.said, extra={"tx": sent.text})
        return True
