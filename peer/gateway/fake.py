"""A node without a network, for tests of whatever stands before one: it says what its script says.

Receipts are really signed and the catalog is the real one; nothing else here computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.manifests import AdapterManifest, BaseManifest, Setting, Tensor
from ...protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from ...protocol.encoding.codec import encode, record_hash
from ...protocol.errors import CommonloreError, NotFound
from ...protocol.gossip.adverts import AdapterRecord, Rates, WorkerAd
from ...protocol.ids import Address, Cid, ReceiptId, cid_of, peer_id_of
from ...protocol.inference.messages import TokenLogprob
from ...protocol.receipts.credits import compute_price, compute_shares
from ...protocol.receipts.outputs import output_root
from ...protocol.receipts.records import Credit, Receipt, ReceiptDetails, SignedReceipt
from ...protocol.signing.bindings import bind
from ...protocol.signing.eip712 import Domain, digest, sign
from ...protocol.signing.envelope import Sealed
from ...protocol.signing.keys import AccountKey, PeerKey
from ..asking.answers import Answer, AskOptions, Delta
from ..asking.attempt_parts import Offer
from ..attribution.statements import ReceiptCredits
from ..catalog import Catalog
from ..clock import Clock, ManualClock
from ..config import Config
from ..home import Home
from ..store.ledger_rows import ReceiptState, Role, StoredReceipt
from .fake_parts import FakeAsker, FakeHost, FakeStore
from .node import GatewayNode

NOW_MS = 1_800_000_000_000
RATES = Rates(prompt_per_1000=1_000, output_per_1000=4_000, request_fee=100)
CONTRIBUTOR = Address(b"c" * 20)
BASE_MANIFEST = BaseManifest(
    family="llama",
    settings=(Setting("layers", "2"),),
    tensors=(Tensor("embedding", "F32", (8, 4), bytes(32)),),
    tokenizer=bytes(32),
    chat_template=bytes(32),
)
BASE = cid_of(encode(BASE_MANIFEST))


@dataclass(frozen=True, slots=True)
class Script:
    """What one ask is answered with. `hold`: after the pieces, nothing more until the asker leaves. `error`
    ends it instead of a receipt. Every piece of text is one token.
    """

    pieces: tuple[str, ...] = ("It is ", "E11", ".9")
    finish: str = "stop"
    prompt_tokens: int = 12
    logprobs: int = 0
    hold: bool = False
    error: CommonloreError | None = None


class ScriptedAnswer(Answer):
    """An answer that follows a script."""

    def __init__(self, node: FakeNode, options: AskOptions, script: Script) -> None:
        adapters = tuple(AdapterWeight(Cid(name), ppm) for name, ppm in options.adapters)
        send, receive = trio.open_memory_channel[Delta](0)
        send.close()
        receive.close()
        super().__init__(adapters, receive)
        self._node = node
        self._script = script
        self._pieces = deque(script.pieces)
        self.transcript.workers.append(node.worker_peer)

    async def __anext__(self) -> Delta:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._next_delta(self._pieces.popleft())
        if self._script.hold:
            self._node.held.set()
            await trio.sleep_forever()
        if self._script.error is not None:
            raise self._script.error
        if not self.transcript.receipts:
            self.transcript.receipts.append(
                self._node.issue(self.adapters, self._script, self.transcript.tokens)
            )
            self.transcript.prompt_tokens = self._script.prompt_tokens
            self.transcript.finish = self._script.finish
        raise StopAsyncIteration

    def _next_delta(self, text: str) -> Delta:
        token = len(self.transcript.tokens) + 1
        self.transcript.tokens.append(token)
        self.transcript.text += text
        stride = 1 + self._script.logprobs if self._script.logprobs else 0
        logprobs = tuple(TokenLogprob(token + offset, 250_000 * (1 + offset)) for offset in range(stride))
        return Delta((token,), text, logprobs)


class FakeNode:
    """See the head of this file. Asks are answered by `scripts` in turn, then by `Script()`."""

    def __init__(self, home: Home, config: Config | None = None) -> None:
        self.config = config or Config(roles=("gateway",), gateway_port=0)
        self.home = home
        self.clock: Clock = ManualClock(NOW_MS)
        self.domain = Domain(1, Address(b"e" * 20))
        self.scripts: deque[Script] = deque()
        self.asked: list[AskOptions] = []
        self.held, self.left = trio.Event(), trio.Event()
        self.adapter_fetches = 0
        self.blobs: dict[Cid, bytes] = {BASE: encode(BASE_MANIFEST)}
        peer = PeerKey.generate(b"p" * 32)
        self.worker_peer = peer_id_of(peer.public)
        self.host = FakeHost(peer_id_of(PeerKey.generate(b"h" * 32).public))
        self.store = FakeStore()
        self.content = self
        self.statements = self
        self.catalog = Catalog(self.get)
        self.lane_key = AccountKey.from_secret(b"l" * 32)
        self._payer = AccountKey.from_secret(b"q" * 32)
        self.asker = FakeAsker(self._offer(peer))

    @property
    def lane(self) -> Address:
        """The worker's lane, which its share goes to."""
        return self.lane_key.address

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The base's manifest, or what was given to `keep`. Raises NotFound."""
        if cid not in self.blobs:
            raise NotFound(f"nobody has {cid}")
        return self.blobs[cid]

    def has(self, cid: Cid) -> bool:
        """Whether `get` gives it."""
        return cid in self.blobs

    def keep(self, record: AdapterManifest) -> Cid:
        """Have an adapter's manifest at hand, and return its id."""
        adapter = cid_of(encode(record))
        self.blobs[adapter] = encode(record)
        return adapter

    def announce_adapter(self, alias: str, base: Cid = BASE, adapter: Cid | None = None) -> Cid:
        """Make an adapter known, and return its id."""
        adapter = adapter or cid_of(alias.encode())
        record = AdapterRecord(alias, adapter, base, None, None, 4_600_000, 1_600_000, 1, NOW_MS)
        self.catalog.learn(Sealed(record, b"k" * 32, self.worker_peer, b""))
        return adapter

    @asynccontextmanager
    async def ask(self, options: AskOptions) -> AsyncIterator[Answer]:
        """Answer by the next script."""
        self.asked.append(options)
        script = self.scripts.popleft() if self.scripts else Script()
        try:
            yield ScriptedAnswer(self, options, script)
        finally:
            self.left.set()

    def issue(
        self, adapters: Sequence[AdapterWeight], script: Script, tokens: Sequence[int]
    ) -> SignedReceipt:
        """A receipt of this worker's for an answer, signed and kept."""
        seq = len(self.store.ledger.stored) + 1
        price = compute_price(RATES, script.prompt_tokens, len(tokens))
        details = ReceiptDetails(bytes(32), bytes(32), self.asked[-1].sampling, script.finish)
        receipt = Receipt(
            request_hash=bytes(32),
            payer=self._payer.address,
            lane=self.lane_key.address,
            seq=seq,
            epoch=0,
            step=0,
            artefact=BASE,
            adapters=tuple(adapters),
            prompt_tokens=script.prompt_tokens,
            output_tokens=len(tokens),
            output_root=output_root(tokens),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT if adapters else BASE_SPLIT),
            details=record_hash(details),
        )
        signed = SignedReceipt(receipt, sign(self.domain, self.lane_key, receipt), details)
        self.store.ledger.stored.append(self._stored(signed, seq, tuple(tokens)))
        return signed

    def _stored(self, signed: SignedReceipt, number: int, tokens: tuple[int, ...]) -> StoredReceipt:
        return StoredReceipt(
            number=number,
            role=Role.CLIENT,
            receipt_hash=digest(self.domain, signed.receipt),
            signed=signed,
            state=ReceiptState.VOUCHERED,
            tokens=tokens,
            prompt=None,
            voucher=None,
            credits=None,
            commitment=None,
            created_ms=self.clock.now_ms(),
        )

    async def credits(self, receipt_id: ReceiptId) -> ReceiptCredits:
        """The contributors' share, all of it one contributor's. Raises NotFound without an adapter."""
        stored = await self.store.ledger.receipt(receipt_id)
        if stored is None or not stored.receipt.adapters:
            raise NotFound("no statement on this receipt is known")
        shares = stored.receipt.shares
        credits = (
            Credit(self.lane_key.address, "worker", stored.receipt.price - shares.contributors),
            Credit(CONTRIBUTOR, "contributor", shares.contributors),
        )
        return ReceiptCredits(stored, credits, "sketch/1", {CONTRIBUTOR: "alice"})

    def _offer(self, peer: PeerKey) -> Offer:
        owner = AccountKey.from_secret(b"o" * 32)
        now_s = NOW_MS // 1000
        ad = WorkerAd(
            binding=bind(self.domain, owner, self.lane_key, peer, now_s, now_s + 86_400),
            base=BASE,
            artefact=BASE,
            rates=RATES,
            base_split=BASE_SPLIT,
            max_context=2_048,
            max_batch=8,
            queue_depth=0,
            running=0,
            free_pages=512,
            resident=(),
            resident_count=0,
            max_rank=64,
            addresses=(),
            seq=1,
            issued_ms=NOW_MS,
            base_name="tiny-llama",
        )
        return Offer(self.worker_peer, ad, record_hash(ad))


if TYPE_CHECKING:
    _is_a_node: type[GatewayNode] = FakeNode
