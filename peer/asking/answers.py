"""What a caller asks for and what it gets back: options, and an answer that is read while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from ...protocol.content.compositions import AdapterWeight
from ...protocol.errors import CommonloreError, LocalProtocolError
from ...protocol.ids import Address, Cid, PeerId, ReceiptId, receipt_id_of
from ...protocol.inference.messages import TokenChunk, TokenLogprob
from ...protocol.receipts.records import SignedReceipt
from ...protocol.requests.records import ChatMessage, Disclosure, PromptPart, Sampling
from .composition import read_composition

DEFAULT_MAX_TOKENS = 256
DEFAULT_DEADLINE_S = 120.0
BUFFERED_DELTAS = 1_024
GREEDY = Sampling(seed=0, max_tokens=DEFAULT_MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Rows wanted before a question: at most `rows` of a Datanet, by its name or id."""

    datanet: str
    rows: int = 4


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template wanted before a question: what a row of a Datanet answers, counted from 1 in its
    order."""

    datanet: str
    row: int = 1


@dataclass(frozen=True, slots=True)
class Citation:
    """A row that stood before the question, as `[number]`; `row` is its hash. `by_words` and `by_meaning` are
    its ranks among the rows that were found so, from 1; None where it was not."""

    number: int
    datanet: Cid
    shard: Cid
    contributor: str
    payee: Address
    row: bytes
    question: str
    answer: str
    by_words: int | None = None
    by_meaning: int | None = None


@dataclass(frozen=True, slots=True)
class AskOptions:
    """One question. `adapters` are (name or id, parts per million); none asks the base alone.

    `base` is needed only then.

    `max_price` (token units) defaults to the node's own (`Config.max_price`); no worker may charge more than
    its advertised rates make of the prompt's bytes and `max_tokens`. Greedy by default.

    With `retrieve` the node puts rows before the question, with `template` a template; then `prompt_parts`
    says where, `citations` which rows.

    `client` is on whose behalf this peer asks: each has a budget (`Config.client_asks`, `client_spend`).
    """

    messages: tuple[ChatMessage, ...]
    adapters: tuple[tuple[str, int], ...] = ()
    base: Cid | None = None
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    max_price: int | None = None
    deadline_s: float = DEFAULT_DEADLINE_S
    disclosure: Disclosure = Disclosure.AUDIT_AND_ATTRIBUTION
    top_logprobs: int = 0
    retrieve: Retrieval | None = None
    template: Template | None = None
    prompt_parts: tuple[PromptPart, ...] = ()
    citations: tuple[Citation, ...] = ()
    client: str = ""

    @property
    def too_late(self) -> str:
        """What to say when there is no answer by the deadline."""
        return f"no whole answer within {self.deadline_s:g} s; ask with a later deadline"


def ask_options(prompt: str, adapter: str | None = None, **options: object) -> AskOptions:
    """The common case: one user turn. `adapter` is a name or id, or several: `owner/a=0.7+owner/b=0.3`.

    Raises TypeError on an option that AskOptions lacks, ConfigError on weights that make no composition.
    """
    adapters = read_composition((adapter,)) if adapter else ()
    return AskOptions((ChatMessage("user", prompt),), adapters, **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Delta:
    """What one frame added: token ids, the text they complete, and log-probabilities when asked for."""

    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True)
class Transcript:
    """Everything that was delivered so far, from all the workers that took part.

    `artefacts` are what they computed it with, in turn: more than one when a worker was lost and no other of
    the same artefact could go on, so that what follows may be another model's at heart, int4 for bf16, say.
    `unread` are receipts of second workers who were asked beside others and came later: paid, but not read.
    """

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    receipts: list[SignedReceipt] = field(default_factory=list)
    workers: list[PeerId] = field(default_factory=list)
    artefacts: list[Cid] = field(default_factory=list)
    unread: list[SignedReceipt] = field(default_factory=list)
    prompt_tokens: int = 0
    finish: str = ""

    def add(self, chunk: TokenChunk, artefact: Cid) -> None:
        """What a worker of this artefact delivered."""
        self.tokens.extend(chunk.tokens)
        self.text += chunk.text
        if self.artefacts[-1:] != [artefact]:
            self.artefacts.append(artefact)

    @property
    def price(self) -> int:
        """What the vouchers given so far add up to, in token units."""
        return sum(r.receipt.price for r in (*self.receipts, *self.unread))

    @property
    def paid_tokens(self) -> int:
        """Output tokens that a receipt covers."""
        return sum(r.receipt.output_tokens for r in self.receipts)


class Answer:
    """An answer under way: iterate over its `Delta`s; afterwards read its transcript.

    Leaving early cancels it.

    Every receipt in the transcript was verified (signature, price, shares, output root) before its voucher
    was signed.
    """

    def __init__(
        self,
        adapters: tuple[AdapterWeight, ...],
        deltas: trio.MemoryReceiveChannel[Delta],
        citations: tuple[Citation, ...] = (),
    ) -> None:
        self.adapters = adapters
        self.citations = citations
        self.transcript = Transcript()
        self._deltas = deltas
        self._error: CommonloreError | None = None

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Delta:
        try:
            return await self._deltas.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None

    def fail(self, error: CommonloreError | None) -> None:
        """What the reader gets after the deltas that did arrive; None for a whole answer."""
        self._error = error

    async def read(self) -> str:
        """Wait for the end and give the whole text. Raises what ended the answer."""
        async for _ in self:
            pass
        return self.transcript.text

    @property
    def receipt_id(self) -> ReceiptId:
        """The id of the last receipt. Raises LocalProtocolError before there is one."""
        return receipt_ids(self.transcript.receipts)[-1]


def receipt_ids(receipts: Sequence[SignedReceipt]) -> list[ReceiptId]:
    """The ids of these receipts, in order. Raises LocalProtocolError when there are none."""
    if not receipts:
        raise LocalProtocolError("the answer has no receipt yet")
    return [receipt_id_of(r.receipt.payer, r.receipt.lane, r.receipt.seq) for r in receipts]
