"""One ask served: the worker's half of the inference conversation, after its checks.

Rules of this file: after each step its receipt is paid (`step_receipts`) before more is delivered, so whoever
vanishes costs this worker at most one step; nothing is computed beyond what the request's price pays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import trio

from ...protocol.errors import EngineFailed, Refused, RemoteProtocolError, Unreachable
from ...protocol.inference.messages import (
    Accepted,
    Cancel,
    RefusalCode,
    TokenLogprob,
    VoucherMessage,
)
from ...protocol.receipts.credits import compute_price, heaviest_adapter
from ...protocol.receipts.records import SignedVoucher
from ...protocol.receipts.rules import adopt_voucher
from ...protocol.requests.records import Sampling
from ...protocol.requests.rules import most_prompt_tokens
from ...worker.engine.types import FinishReason, GenerationRequest, TokenEvent
from ..store.channel_rows import ChannelConflict
from ..store.ledger_rows import Role
from ..unwrap import single_error
from ..wire.calls import EndOfCall
from .conversation_parts import ServingParts
from .request_log import ServedTimes
from .step_receipts import Conversation, StepReceipts

LAST_CHUNK_PATIENCE_S = 5.0
"""How long a client that cancelled may take to read what was on its way to it."""

CLOSING_MS = 5_000
"""Who cancels so shortly before the deadline has no more time."""


class Serving:
    """One conversation: deliver, account, settle, step by step."""

    def __init__(self, parts: ServingParts, conversation: Conversation) -> None:
        self._parts = parts
        self._call = conversation.call
        self._stream = conversation.stream
        self._ask = ask = conversation.ask
        self._terms = conversation.terms
        self._generating = trio.CancelScope()
        self._most_prompt = most_prompt_tokens(ask.signed.prompt.messages)
        self._voucher_in, vouchers = trio.open_memory_channel[SignedVoucher](1)
        self._receipts = StepReceipts(parts, conversation, vouchers)
        self._progress = self._receipts.progress
        self._started_s = trio.current_time()
        self._times = ServedTimes(self._progress.started_ms, 0, False)

    @property
    def unpaid(self) -> int:
        """Token units that the tokens delivered since the last voucher cost."""
        step = self._stream.step
        return self._price(self._progress.prompt_tokens, len(step.tokens), step.index) if step.tokens else 0

    async def accept(self, running: int, adapters_ready: bool) -> None:
        """Tell the client that its ask was admitted, how many wait before it (`running` asks are served here,
        it included), and which voucher of its channel this worker holds."""
        request = self._terms.request
        self._times.running, self._times.held = running, adapters_ready
        channel = await self._parts.ledger.channel(Role.WORKER, request.payer, request.lane)
        shown = self._ask.channel
        highest = adopt_voucher(self._parts.domain, request.payer, request.lane, channel.voucher, shown)
        if highest is not None and highest != channel.voucher:
            highest = await self._adopt(highest) or channel.voucher
        await self._call.send(self._stream.send(Accepted(self._ahead(running), adapters_ready, highest)))

    def _ahead(self, running: int) -> int:
        return max(0, running - self._parts.engine.facts.max_batch)

    async def _adopt(self, shown: SignedVoucher) -> SignedVoucher | None:
        """Take up a voucher that was lost here; None where others before it are missing too. The client
        learns which from the answer, and sends them (see `vouchers`)."""
        try:
            return (await self._parts.ledger.adopt_voucher(Role.WORKER, shown)).voucher
        except ChannelConflict:
            return None

    async def deliver(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Make the adapters ready, answer, and be paid.

        Raises Refused, Unreachable, ProtocolError, EngineFailed.
        """
        with single_error():
            await self._deliver(prepare)

    async def _deliver(self, prepare: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            finish = ""
            with self._generating:
                await self._make_ready(prepare)
                self._progress.load_ms = self._progress.now_ms(self._parts.clock)
                self._times.ready_ms = self._since_ms()
                finish = await self._generate()
            self._note(finish)
            await self._end(finish or self._why_cancelled())
            nursery.cancel_scope.cancel()

    async def _make_ready(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Have the adapters ready by the deadline. Raises Refused."""
        with trio.move_on_after(self._remaining_ms() / 1000) as limit:
            await prepare()
        if limit.cancelled_caught:
            raise Refused(RefusalCode.STALE, "the adapters were not ready by the deadline")

    def _since_ms(self) -> float:
        return round((trio.current_time() - self._started_s) * 1000, 3)

    def _note(self, finish: str) -> None:
        """All tokens came that will: write the line of the request log."""
        times = self._times
        times.adapter = heaviest_adapter(self._terms.request.adapters)
        times.prompt_tokens = self._progress.prompt_tokens
        times.delivered = len(self._ask.signed.prompt.delivered)
        times.finish = finish or self._why_cancelled()
        self._parts.request_log.note(times)

    def _remaining_ms(self) -> int:
        return max(1, self._terms.request.deadline * 1000 - self._parts.clock.now_ms())

    def _why_cancelled(self) -> str:
        """A client whose time is nearly over ends the answer a little before, so as to pay it by then."""
        is_over = self._remaining_ms() <= CLOSING_MS
        return (FinishReason.DEADLINE if is_over else FinishReason.ABORTED).value

    async def _end(self, finish: str) -> None:
        """The final receipt; after a cancel with nothing delivered, the refusal that the protocol asks
        for."""
        if self._generating.cancelled_caught and not self._stream.step.tokens:
            raise Refused("cancelled", "cancelled before anything was delivered", retryable=False)
        await self._receipts.settle(finish, final=True)

    async def _read(self) -> None:
        """Take what the client says meanwhile: vouchers, and the wish to stop.

        When this ends, no voucher comes any more.
        """
        with self._voucher_in:
            while not self._stream.over:
                try:
                    message = self._stream.receive(await self._call.receive())
                except EndOfCall:
                    raise Unreachable("the client left") from None
                match message:
                    case VoucherMessage():
                        self._voucher_in.send_nowait(message.voucher)
                    case Cancel():
                        self._generating.cancel()
                    case _:
                        raise RemoteProtocolError(f"a client cannot send a {type(message).__name__} here")

    async def _generate(self) -> str:
        """Stream tokens, settling every `step_tokens`; returns why the answer ended."""
        signed = self._ask.signed
        wanted = GenerationRequest(
            request_id=signed.request.request_id,
            sampling=await self._affordable(),
            messages=signed.prompt.messages,
            delivered=signed.prompt.delivered,
            adapters=signed.request.adapters,
            stop=signed.prompt.stop,
            top_logprobs=signed.prompt.top_logprobs,
            deadline_ms=self._remaining_ms(),
        )
        async with aclosing(self._parts.engine.generate(wanted)) as produced:
            async for event in produced:
                await self._pass_on(event)
                if event.finish is not None:
                    if event.finish == FinishReason.ERROR.value:
                        raise EngineFailed(event.error)
                    return event.finish
                if len(self._stream.step.tokens) >= self._parts.step_tokens:
                    await self._receipts.settle("", final=False)
        raise EngineFailed("the engine ended the answer without saying why")

    async def _affordable(self) -> Sampling:
        """The request's sampling, with no more tokens than its price pays.

        Raises Refused when that is none.
        """
        signed = self._ask.signed
        sampling, delivered = signed.request.sampling, len(signed.prompt.delivered)
        wanted, limit = sampling.max_tokens - delivered, signed.request.max_price
        if self._price(self._most_prompt, wanted) <= limit:
            return sampling  # whatever the tokenizer makes of the prompt
        prompt = min(await self._parts.engine.count_tokens(signed.prompt.messages), self._most_prompt)
        if (least := self._price(prompt, 1)) > limit:
            raise Refused(
                RefusalCode.PRICE, f"this prompt and one token cost {least}; the request allows {limit}"
            )
        rate = self._terms.rates.output_per_1000
        paid = ((limit - self._price(prompt, 0)) * 1000 // rate) if rate else wanted
        return replace(sampling, max_tokens=delivered + max(1, min(wanted, paid)))

    def _price(self, prompt: int, output: int, step: int = 0) -> int:
        return compute_price(self._terms.rates, 0 if step else prompt, output, step=step)

    async def _pass_on(self, event: TokenEvent) -> None:
        progress = self._progress
        progress.prompt_tokens = min(event.prompt_tokens or progress.prompt_tokens, self._most_prompt)
        if not event.tokens and not event.text:
            return
        progress.first_token_ms = progress.first_token_ms or progress.now_ms(self._parts.clock)
        self._times.last_ms = self._since_ms()
        self._times.first_ms = self._times.first_ms or self._times.last_ms
        self._times.output_tokens += len(event.tokens)
        chunk = self._stream.make_chunk(event.tokens, event.text, flatten(event))
        body = self._stream.send(chunk)
        try:
            await self._call.send(body)
        except trio.Cancelled:  # it was not sent, and the next receipt counts it
            with trio.move_on_after(LAST_CHUNK_PATIENCE_S, shield=True):
                await self._call.send(body)
            raise


def flatten(event: TokenEvent) -> tuple[TokenLogprob, ...]:
    """Log-probabilities as they travel: for each token its own, then the `top_logprobs` most likely."""
    return tuple(entry for each in event.logprobs for entry in (each.chosen, *each.top))
