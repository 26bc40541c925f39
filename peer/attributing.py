"""Statements on what this worker served: scored after the answer, in a process of their own, never in its
way.

Rules of this file: a payer that did not disclose for attribution, an adapter without an index, or a queue
that is full gets no statement, and the manifest's prior weights apply; a failure here never touches an
answer. The process starts with the first answer that needs it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from ..protocol.attribution import PRIOR_METHOD, prior_weights
from ..protocol.credits import heaviest_adapter
from ..protocol.envelope import open_sealed, seal
from ..protocol.errors import CommonloreError, NotFound
from ..protocol.ids import Cid
from ..protocol.manifests import AdapterManifest
from ..protocol.messages import Ask
from ..protocol.receipts import AttributionStatement
from ..protocol.requests import Disclosure
from ..worker.attribution.process import AttributionConfig, AttributionProcess
from ..worker.attribution.subject import subject_of
from .evidence import curvature_of, early_of, index_of
from .node import Node
from .records import MAX_STATEMENT_BYTES
from .serving import PaidStep

log = logging.getLogger("commonlore.peer.attributing")
MAX_WAITING = 64
MAX_KNOWN = 32
"""Adapters that the scoring process holds: each costs it memory. Of others the longest unused gives way."""
MAX_STATEMENT_S = 600.0
"""One whose checkpoint does not come holds up the others no longer than this."""


@dataclass(frozen=True, slots=True)
class _Known:
    index: Cid
    method: str


class Attributing:
    """The queue of paid steps, and what is made of them."""

    def __init__(self, node: Node, scorer: AttributionProcess) -> None:
        self._node = node
        self._scorer = scorer
        self._known: OrderedDict[Cid, _Known] = OrderedDict()
        self._queue, self._work = trio.open_memory_channel[PaidStep](MAX_WAITING)

    def expect(self, ask: Ask, receipt_hash: bytes) -> None:
        """A receipt goes out; if a statement on it will be made, let whoever asks for it wait."""
        request = ask.signed.request
        if request.disclosure == Disclosure.AUDIT_AND_ATTRIBUTION and request.adapters:
            self._node.statements.expect(receipt_hash)

    def give_up(self, receipt_hash: bytes) -> None:
        """There will be no statement on this receipt."""
        self._node.statements.drop(receipt_hash)

    def take(self, step: PaidStep) -> None:
        """A step was paid: have it scored, when it is expected to be and there is room."""
        if not step.tokens or not self._node.statements.is_expected(step.receipt_hash):
            return self.give_up(step.receipt_hash)
        try:
            self._queue.send_nowait(step)
        except trio.WouldBlock:
            log.warning("the attribution queue is full: prior weights apply to %s", step.receipt_hash.hex())
            self.give_up(step.receipt_hash)

    async def run(self) -> None:
        """Score what comes, one after the other; for ever."""
        async for step in self._work:
            try:
                with trio.fail_after(MAX_STATEMENT_S):
                    await self._state(step)
            except (CommonloreError, trio.TooSlowError) as error:
                log.warning("no statement on %s: %s", step.receipt_hash.hex(), error or "it took too long")
            except Exception:  # what a stranger published must not end the node
                log.exception("no statement on %s", step.receipt_hash.hex())
            finally:
                self._node.statements.drop(step.receipt_hash)

    async def _state(self, step: PaidStep) -> None:
        """Score one step and keep the sealed statement on it."""
        adapter = heaviest_adapter(step.signed.receipt.adapters)
        if adapter is None:
            return
        manifest = await self._node.catalog.adapter(adapter)
        known = await self._make_known(adapter, manifest)
        score = await self._scorer.score(adapter, step.ask.signed.prompt.messages, step.before + step.tokens)
        if score.weights is None:
            method, weights = PRIOR_METHOD, prior_weights(manifest)
        else:
            method, weights = known.method, score.weights
        query = hashlib.sha256(score.query).digest()
        await self._node.content.put(score.query)  # whoever checks the statement fetches it by its digest
        statement = AttributionStatement(step.receipt_hash, adapter, known.index, method, query, weights)
        raw = seal(self._node.keys.peer, statement, MAX_STATEMENT_BYTES)
        sealed = open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES)
        await self._node.statements.keep(sealed)

    async def _make_known(self, adapter: Cid, manifest: AdapterManifest) -> _Known:
        """Fetch what scoring needs, early checkpoint and index, once. Raises NotFound."""
        record = self._node.catalog.record_of(adapter, manifest.author)
        if record is None or record.index is None or manifest.early_checkpoint is None:
            raise NotFound(f"adapter {adapter} has no gradient index; prior weights apply")
        known = self._known.get(adapter)
        if known is not None and known.index == record.index:
            self._known.move_to_end(adapter)
            return known
        content = self._node.content
        index = (await index_of(content, record.index, manifest)).record
        early, curvature = await early_of(content, manifest), await curvature_of(content, manifest)
        await self._scorer.load(subject_of(manifest, early, curvature, index.beacon))
        await self._scorer.use_index(index)
        known = self._known[adapter] = _Known(record.index, index.method)
        while len(self._known) > MAX_KNOWN:
            await self._scorer.forget(self._known.popitem(last=False)[0])
        return known


@asynccontextmanager
async def open_attributing(node: Node, base_dir: Path) -> AsyncIterator[Attributing]:
    """Take paid steps until the block ends."""
    config = AttributionConfig(base_dir, node.home.jobs / "attribution", node.config.threads)
    scorer = AttributionProcess(config)
    attributing = Attributing(node, scorer)
    try:
        node.nursery.start_soon(attributing.run)
        yield attributing
    finally:
        with trio.CancelScope(shield=True):
            await scorer.close()
