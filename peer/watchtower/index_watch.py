"""Indexes watched: every one that was committed on the chain is added up again while it can be challenged.

Rules of this file:

- An index is judged once, from what was published under the commitment's own digest; a proof is sent as soon
  as something is found.
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
from ...protocol.errors import CommonloreError, InvalidSignature, NotFound, RemoteProtocolError, Unreachable
from ...protocol.ids import checksummed
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
        until, every = trio.current_time() + LOOK_PATIENCE_S, await on_chain(self._client.indexes.all)
        for made in sorted(every, key=lambda each: self._tried[each.commitment]):
            if made.killed or made.commitment in self._judged:
                continue
            if trio.current_time() > until:
                report.waiting.append("more indexes are judged in the next round")
                return
            if report.chain_time < await on_chain(self._client.indexes.open_until, made.commitment):
                await self._try(made.commitment, report)
            else:
                self._judged.add(made.commitment)

    async def _try(self, commitment: IndexCommitment, report: WatchReport) -> None:
        named = f"index {commitment.manifest.hex()[:16]} of {checksummed(commitment.maker)}"
        self._tried[commitment] += 1
        try:
            with trio.fail_after(READ_PATIENCE_S):
                published = await self._read(commitment)
            fraud = await trio.to_thread.run_sync(find_index_fraud, commitment, published)
        except trio.TooSlowError:
            report.waiting.append(f"{named}: it did not come within {READ_PATIENCE_S:g} s")
            return
        except (NotFound, Unreachable) as error:
            report.waiting.append(f"{named}: {error}")
            return
        except (RemoteProtocolError, InvalidSignature) as error:
            report.doubts.append(f"{named}: {error}")
        except CommonloreError as error:
            report.waiting.append(f"{named}: {error}")
            return
        except Exception:  # a defect, which one index brought out: the others are watched
            report.waiting.append(f"{named} cannot be judged; see the log")
            log.exception("judging failed", extra={"index": commitment.manifest.hex()})
        else:
            if fraud is not None:
                await self._challenge(commitment, fraud, report)
        report.indexes += 1
        self._judged.add(commitment)

    async def _challenge(self, commitment: IndexCommitment, fraud: IndexFraud, report: WatchReport) -> None:
        try:
            sent = await on_chain(self._client.indexes.prove, commitment, fraud)
        except Rejected as refused:
            report.waiting.append(f"index {commitment.manifest.hex()[:16]}: {fraud.said}: {refused}")
            return
        act = IndexAct(fraud.kind, commitment.maker, commitment.manifest, fraud.said, sent.text)
        report.index_acts.append(act)
        log.warning("proved that an index is wrong: %s", fraud.said, extra={"tx": sent.text})
