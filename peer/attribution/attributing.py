"""Statements on what this worker served: scored after the answer, in a process of their own, never in its
way.

Rules of this file: a payer that did not disclose for attribution, or an adapter without an index, gets no
statement, and the manifest's prior weights apply; a failure here never touches an answer. The process starts
with the first answer that needs it.

The first receipts of an adapter in an epoch are scored at once, for a small pool is drawn whole. Of a larger
one the others wait until it is known which are drawn (`state_drawn`): the rest is never scored at all. What
waits is on the disk (`consents`), so that a node that was started anew still states what is drawn. An answer
by several adapters is in the pool of each, and scored by each that wants it, one after the other.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ...protocol.attribution.pools import FEWEST_DRAWN
from ...protocol.errors import CommonloreError
from ...protocol.ids import Cid, ReceiptId
from ...protocol.inference.messages import Ask
from ...protocol.receipts.parts import attributed
from ...protocol.receipts.records import AttributionStatement
from ...protocol.requests.records import Disclosure
from ...protocol.signing.envelope import Sealed
from ...worker.attribution.process import AttributionConfig, AttributionProcess
from ..node import Node
from ..serving.conversation_parts import PaidStep
from ..store.node_store import Store
from .evidence import tokens_before
from .scoring import Scorable, Scoring
from .second_opinions import SecondOpinions

log = logging.getLogger("commonlore.peer.attribution.attributing")
MAX_WAITING = 64
MAX_STATEMENT_S = 600.0
"""One whose checkpoint does not come holds up the others no longer than this."""
_Stated = tuple[PaidStep, Sealed[AttributionStatement]]
_Wanted = tuple[PaidStep, tuple[Cid, ...]]
"""A paid step, and by which of its adapters it is scored now."""


class Attributing:
    """The queue of paid steps, and what is made of them."""

    def __init__(self, node: Node, scoring: Scoring, seconds: SecondOpinions) -> None:
        self._node = node
        self._scoring = scoring
        self._seconds = seconds
        self._counts: Counter[tuple[Cid, int]] = Counter()
        self._queue, self._work = trio.open_memory_channel[_Wanted](MAX_WAITING)
        self._places = trio.Semaphore(MAX_WAITING)
        self._stated, self._to_second = trio.open_memory_channel[_Stated](MAX_WAITING)

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
        self._node.nursery.start_soon(self._node.store.consents.keep, step.receipt_hash, step.request)
        wanted = self._few(step)
        if not wanted:
            return self.give_up(step.receipt_hash)
        try:
            self._queue.send_nowait((step, wanted))
        except trio.WouldBlock:
            log.info("the attribution queue is full: %s waits for the draw", step.receipt_hash.hex())
            self.give_up(step.receipt_hash)

    def _few(self, step: PaidStep) -> tuple[Cid, ...]:
        """The adapters whose pool may still be one that is drawn whole."""
        receipt, few = step.signed.receipt, list[Cid]()
        for adapter in adapters_of(step):
            self._counts[adapter, receipt.epoch] += 1
            if self._counts[adapter, receipt.epoch] <= FEWEST_DRAWN:
                few.append(adapter)
        for old in [each for each in self._counts if each[1] + 2 < receipt.epoch]:
            del self._counts[old]
        return tuple(few)

    async def state_drawn(self, receipt_hash: bytes, adapter: Cid, beacon: bytes) -> None:
        """A receipt was drawn from an adapter's pool: score it, if it waits for that. Raises CommonloreError,
        TooSlowError.
        """
        step = await waiting_step(self._node.store, receipt_hash)
        if step is not None:
            with trio.fail_after(MAX_STATEMENT_S):
                await self._seconds.seek(step, await self._state(step, adapter), beacon)

    async def run(self) -> None:
        """Score what comes, for ever. What one waits for, its adapter's files, keeps no other waiting: only
        computing is one after the other."""
        async with trio.open_nursery() as nursery:
            async for step, wanted in self._work:
                await self._places.acquire()
                nursery.start_soon(self._score, step, wanted)

    async def _score(self, step: PaidStep, wanted: tuple[Cid, ...]) -> None:
        try:
            for adapter in wanted:
                await self._try(step, adapter)
        finally:
            self._places.release()
            self._node.statements.drop(step.receipt_hash)

    async def _try(self, step: PaidStep, adapter: Cid) -> None:
        try:
            with trio.fail_after(MAX_STATEMENT_S):
                self._stated.send_nowait((step, await self._state(step, adapter)))
        except trio.WouldBlock:
            pass  # the other attributors are too slow: this one's statement counts alone
        except (CommonloreError, trio.TooSlowError) as error:
            log.warning("no statement on %s: %s", step.receipt_hash.hex(), error or "it took too long")
        except Exception:  # what a stranger published must not end the node
            log.exception("no statement on %s", step.receipt_hash.hex())

    async def run_seconds(self) -> None:
        """Have what was stated seconded; for ever."""
        async for step, own in self._to_second:
            await self._seconds.seek(step, own)

    async def _state(self, step: PaidStep, adapter: Cid) -> Sealed[AttributionStatement]:
        """Score one step by one of its adapters and keep the sealed statement on it."""
        prompt, output = step.request.prompt, step.before + step.tokens
        sealed = await self._scoring.state(Scorable(adapter, step.receipt_hash, prompt, output))
        await self._node.statements.keep(sealed)
        stated = await self._node.store.records.statements_on(step.receipt_hash)
        own = {each.record.adapter for each in stated if each.public_key == self._node.keys.peer.public}
        if own.issuperset(adapters_of(step)):
            await self._node.store.consents.drop(step.receipt_hash)
        return sealed


def adapters_of(step: PaidStep) -> tuple[Cid, ...]:
    """The adapters whose pools a paid step is in."""
    return tuple(part.adapter for part in attributed(step.signed.receipt) if part.adapter is not None)


async def waiting_step(store: Store, receipt_hash: bytes) -> PaidStep | None:
    """A paid step that waits to be scored, from what is on the disk; None where it does not wait.

    Raises NotFound where an earlier step of its answer is missing.
    """
    stored = await store.ledger.receipt(ReceiptId(receipt_hash))
    if stored is None or stored.prompt is None:
        return None
    signed = await store.consents.signed(receipt_hash, stored.prompt)
    if signed is None:
        return None
    before = await tokens_before(store.ledger, stored)
    return PaidStep(signed, stored.signed, receipt_hash, before, stored.tokens)


@asynccontextmanager
async def open_attributing(node: Node, base_dir: Path, base: Cid) -> AsyncIterator[Attributing]:
    """Take paid steps until the block ends."""
    config = AttributionConfig(base_dir, node.home.jobs / "attribution", node.config.threads)
    scorer = AttributionProcess(config)
    scoring = Scoring(node, scorer)
    attributing = Attributing(node, scoring, SecondOpinions(node, scoring, base))
    try:
        node.nursery.start_soon(attributing.run)
        node.nursery.start_soon(attributing.run_seconds)
        yield attributing
    finally:
        with trio.CancelScope(shield=True):
            await scorer.close()
