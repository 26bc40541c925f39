"""The second attributor of an answer: who is asked, and what is answered.

Rules of this file: among the workers of the same base that are known, the lot of the receipt draws who is
asked: one whose owner has bonded as an attributor on the chain, and anybody only where nobody has, which is
logged; of a receipt that a beacon drew the lot is of that beacon, too. Who gives no statement is followed by
the next in the lot. Whoever is asked checks the payer's consent, the receipt and the draw before it computes
anything, and computes for few at a time. What is answered is a sealed statement like the worker's own, which
says also who it is by, what drew it and from whom (`protocol.receipts.seconding`); the two are laid beside
each other when the pool is divided, and both are published.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import trio

from ...protocol.attribution.opinions import (
    OpinionRequest,
    PaidReceipt,
    check_drawn,
    check_opening,
    check_second,
)
from ...protocol.attribution.pools import TOLERANCE_PPM, draw_second, total_variation_ppm
from ...protocol.encoding.codec import decode, encode
from ...protocol.errors import (
    CommonloreError,
    InvalidSignature,
    NotFound,
    Refused,
    RemoteProtocolError,
)
from ...protocol.ids import Cid, PeerId, ReceiptId, public_key_of
from ...protocol.inference.messages import RefusalCode
from ...protocol.receipts.records import AttributionStatement
from ...protocol.receipts.seconding import BondedList, DrawnSecond
from ...protocol.signing.eip712 import digest
from ...protocol.signing.envelope import Sealed, open_sealed
from ..node import Node
from ..serving.conversation_parts import PaidStep
from ..store.ledger_rows import StoredReceipt
from ..store.records import MAX_STATEMENT_BYTES
from ..wire.calls import Call
from .scoring import Scorable, Scoring
from .second_draw import bonded_list, check_facts, drawn_facts

log = logging.getLogger("commonlore.peer.attribution.second_opinions")
METHOD = "attribute"
MAX_OPENING_BYTES = 1 << 20
MOST_AT_ONCE = 4
PATIENCE_S = 120.0
MOST_ASKED = 3
"""Of those in the lot, one after another, until one gives a statement: else the worker's counts alone."""


class SecondOpinions:
    """Both sides of `attribute`."""

    def __init__(self, node: Node, scoring: Scoring, base: Cid) -> None:
        self._node = node
        self._scoring = scoring
        self._base = base
        self._running: set[PeerId] = set()
        self._told_unbonded = False
        node.rpc.serve(METHOD, self._serve)

    # ---- asked

    async def _serve(self, call: Call) -> None:
        raw = await call.receive()
        if call.peer in self._running or len(self._running) >= MOST_AT_ONCE:  # before anything is opened
            raise Refused(RefusalCode.BUSY, "one answer a peer is scored at a time, and few; ask another")
        self._running.add(call.peer)
        try:
            with trio.fail_after(PATIENCE_S):
                sealed = await self._opinion(raw)
        except trio.TooSlowError:
            raise Refused(RefusalCode.BUSY, f"not scored within {PATIENCE_S:g} s; ask another") from None
        finally:
            self._running.discard(call.peer)
        await self._node.store.records.put_statement(sealed)  # what it may have to attest to
        await call.send(sealed.raw)

    async def _opinion(self, raw: bytes) -> Sealed[AttributionStatement]:
        """What this peer says of an answer that it is shown. Raises Refused, and what checks of it raise."""
        asked = await trio.to_thread.run_sync(self._opened, raw)
        drawn = await self._as_drawn(asked)
        if asked.challenged is not None:
            await self._scoring.doubt(asked.adapter, asked.challenged)
        sealed = await self._scoring.state(_scorable(self._node, asked), drawn)
        if sealed.record.index != asked.index:
            raise Refused(RefusalCode.STALE, f"this peer knows the index {sealed.record.index}")
        return sealed

    def _opened(self, raw: bytes) -> OpinionRequest:
        """The checked opening of a paid answer. CPU only: an answer of a thousand steps has two signatures of
        each."""
        asked = decode(OpinionRequest, raw, MAX_OPENING_BYTES)
        check_opening(self._node.domain, asked)
        if asked.signed.request.base != self._base:
            raise Refused(RefusalCode.UNKNOWN_BASE, f"this peer scores answers of {self._base}")
        return asked

    async def _as_drawn(self, asked: OpinionRequest) -> DrawnSecond:
        """By which draw this peer was asked. Raises RemoteProtocolError where the chain says otherwise."""
        client, receipt = self._node.chain.client, asked.paid.signed.receipt
        own = self._node.binding.current()
        if asked.bonded is None:
            return DrawnSecond(own, asked.beacon, None)
        if client is not None:
            check_facts(await drawn_facts(client, receipt, asked.bonded), asked.beacon, asked.bonded)
        listed = await self._node.content.hold(encode(asked.bonded))  # who asks keeps it
        return DrawnSecond(own, asked.beacon, listed)

    # ---- asking

    async def seek(self, step: PaidStep, own: Sealed[AttributionStatement], beacon: bytes = b"") -> None:
        """Have another score the same answer, and keep what it says; `beacon` drew the receipt, where one
        did. Nobody to ask, or no answer, is no error: the worker's statement then counts alone.
        """
        if own.record.index is None:
            return
        own = await self._as_now(step, own)
        draw, sealed = (beacon, await bonded_list(self._node.chain.client)), None
        asked = set[PeerId]()
        while sealed is None and len(asked) < MOST_ASKED:
            peer = self._draw(step.receipt_hash, *draw, asked)
            if peer is None:
                return
            asked.add(peer)
            sealed = await self._try(peer, step, own.record, draw)
        if sealed is None:
            return
        await self._node.store.records.put_statement(sealed)
        if sealed.record.challenged is not None:
            return await self._weigh_challenge(step, own, sealed.record)
        apart = total_variation_ppm(own.record.weights, sealed.record.weights)
        level = logging.WARNING if apart > TOLERANCE_PPM else logging.INFO
        log.log(level, "two attributors are %d ppm apart on %s", apart, step.receipt_hash.hex())

    async def _try(
        self, peer: PeerId, step: PaidStep, own: AttributionStatement, draw: tuple[bytes, BondedList | None]
    ) -> Sealed[AttributionStatement] | None:
        """What a peer says of an answer; None where that is nothing that counts."""
        try:
            with trio.fail_after(PATIENCE_S):
                sealed = await self._ask(peer, step, own, draw)
        except (CommonloreError, trio.TooSlowError) as error:
            log.info("no second statement on %s: %s", step.receipt_hash.hex(), error or "it took too long")
            return None
        if sealed.record.faithfulness == own.faithfulness:
            return sealed
        log.info("peer %s has heard of another measurement: its statement does not count", peer)
        return None

    async def _as_now(
        self, step: PaidStep, own: Sealed[AttributionStatement]
    ) -> Sealed[AttributionStatement]:
        """This worker's statement on an answer, made again where it has since come to challenge the index."""
        record = own.record
        if record.challenged is not None or self._scoring.challenged(record.adapter, record.index) is None:
            return own
        said = step.before + step.tokens
        answer = Scorable(record.adapter, step.receipt_hash, step.request.prompt, said)
        try:
            with trio.fail_after(PATIENCE_S):
                own = await self._scoring.state(answer)
        except (CommonloreError, trio.TooSlowError) as error:
            log.warning("the statement on %s stays: %s", step.receipt_hash.hex(), error or "too slow")
            return own
        await self._node.store.records.put_statement(own)
        return own

    async def _weigh_challenge(
        self, step: PaidStep, own: Sealed[AttributionStatement], other: AttributionStatement
    ) -> None:
        """The other attributor challenges the index. Where its row does differ, this one does, too, from this
        receipt on; where it does not, the receipt goes by the priors and the challenge stands for anybody to
        see through."""
        assert other.challenged is not None
        index, receipt, known = own.record.index, step.receipt_hash.hex(), own.record.challenged
        try:
            holds = known is not None or await self._scoring.doubt(own.record.adapter, other.challenged)
        except CommonloreError as error:
            log.warning("the challenge of index %s on %s was not looked at: %s", index, receipt, error)
            return
        await self._as_now(step, own)
        told = "is challenged rightly" if holds else "is challenged FALSELY, by a row that is its gradient"
        log.warning("index %s %s, by another attributor of %s", index, told, receipt)

    def _draw(
        self,
        receipt_hash: bytes,
        beacon: bytes,
        listed: BondedList | None,
        asked: Collection[PeerId] = (),
    ) -> PeerId | None:
        """Who is asked next; None where there is nobody. An owner of several peers is asked once."""
        own, mine = self._node.host.peer_id, self._node.keys.owner.address
        offers = {
            public_key_of(offer.peer): offer
            for offer in self._node.asker.offers()
            if offer.ad.base == self._base and offer.peer != own
        }
        owners = {key: offer.ad.binding.binding.owner for key, offer in offers.items()}
        bonded = set(listed.accounts if listed else ()) - {mine}  # its own word is there already
        bonded &= set(owners.values())
        if not bonded and owners and not self._told_unbonded:
            self._told_unbonded = True
            log.warning("no worker of this base has bonded as an attributor: whoever is known scores second")
        spent = {owner for key, owner in owners.items() if offers[key].peer in asked}
        waiting = (bonded or set(owners.values())) - spent
        owners = {key: owner for key, owner in owners.items() if owner in waiting}
        drawn = draw_second(beacon, receipt_hash, owners, bonded)
        return None if drawn is None else offers[drawn].peer

    async def _paid(self, receipt_hash: bytes) -> tuple[PaidReceipt, tuple[PaidReceipt, ...]]:
        """A receipt and those of the steps before it, with their vouchers. Raises NotFound."""
        ledger = self._node.store.ledger
        stored = await ledger.receipt(ReceiptId(receipt_hash))
        if stored is None:
            raise NotFound(f"receipt {receipt_hash.hex()} is not in this home")
        return _with_voucher(stored), tuple(map(_with_voucher, await ledger.steps_before(stored)))

    async def _ask(
        self, peer: PeerId, step: PaidStep, own: AttributionStatement, draw: tuple[bytes, BondedList | None]
    ) -> Sealed[AttributionStatement]:
        paid, earlier = await self._paid(step.receipt_hash)
        assert own.index is not None
        said = step.before, step.tokens
        asked = OpinionRequest(
            step.request, paid, own.adapter, own.index, earlier, *said, *draw, own.challenged
        )
        raw = await self._node.rpc.call(peer, METHOD, encode(asked))
        sealed = open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES)
        if sealed.peer_id != peer:
            raise InvalidSignature(f"peer {peer} gave out a statement that {sealed.peer_id} sealed")
        if (sealed.record.receipt_hash, sealed.record.adapter) != (step.receipt_hash, own.adapter):
            raise RemoteProtocolError(f"peer {peer} gave out a statement on another receipt")
        await self._require_drawn(sealed, *draw)
        return sealed

    async def _require_drawn(
        self, sealed: Sealed[AttributionStatement], beacon: bytes, listed: BondedList | None
    ) -> None:
        """Raises RemoteProtocolError or InvalidSignature unless a second statement says by which draw it was
        asked for, as it was; whoever checks it finds the list here."""
        drawn, mine = sealed.record.drawn, self._node.keys.owner.address
        if drawn is None or drawn.beacon != beacon:
            raise RemoteProtocolError("a second statement does not say which draw asked for it")
        check_second(self._node.domain, sealed.public_key, drawn, mine)
        if listed is not None:
            check_drawn(sealed.record.receipt_hash, drawn, listed, mine)
            await self._node.content.put(encode(listed))


def _with_voucher(stored: StoredReceipt) -> PaidReceipt:
    if stored.voucher is None:
        raise NotFound(f"no voucher pays step {stored.receipt.step} of this answer")
    return PaidReceipt(stored.signed, stored.voucher)


def _scorable(node: Node, asked: OpinionRequest) -> Scorable:
    receipt_hash = digest(node.domain, asked.paid.signed.receipt)
    return Scorable(asked.adapter, receipt_hash, asked.signed.prompt, asked.before + asked.tokens)
