"""The OpenAI-compatible endpoints: `/v1/models` and `/v1/chat/completions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...protocol.signing.eip712 import Domain
from ..asking.answers import AskOptions
from ..clock import Clock
from .asks import Asks, CountedAnswer
from .bodies import Body, read_fields, server_sent_events, while_connected
from .chat_reply import ReplyFrame, finish_of, join_logprobs, logprobs_of, receipt_of
from .chat_request import ChatRequest, read_chat_request
from .guard import client_of
from .models import Models
from .sampling import Entropy
from .tool_reply import CallSieve

DOOR = "openai"
RECEIPT_HEADER = "x-receipt-id"


class Chat:
    """The endpoints of one node."""

    def __init__(self, asks: Asks, models: Models, clock: Clock, domain: Domain, entropy: Entropy) -> None:
        self._asks = asks
        self._models = models
        self._clock = clock
        self._domain = domain
        self._entropy = entropy

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/models", self.list_models),
            Route("/v1/models/{model:path}", self.show_model),
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
        ]

    async def list_models(self, request: Request) -> Response:
        """https://platform.openai.com/docs/api-reference/models/list"""
        return JSONResponse({"object": "list", "data": await self._models.listed()})

    async def show_model(self, request: Request) -> Response:
        """https://platform.openai.com/docs/api-reference/models/retrieve"""
        return JSONResponse(await self._models.described(request.path_params["model"]))

    async def complete(self, request: Request) -> ASGIApp:
        """One chat completion, whole or as it grows."""
        wanted = read_chat_request(await read_fields(request), self._entropy)
        options = wanted.options(await self._models.resolve(wanted.model))
        options = replace(options, client=client_of(request))
        frame = ReplyFrame(f"chatcmpl-{self._entropy(12).hex()}", wanted.model, self._clock.now_ms() // 1000)
        completion = _Completion(self._asks, self._domain, wanted, options, frame)
        return server_sent_events(completion.stream) if wanted.stream else completion


class _Completion:
    """One reply."""

    def __init__(
        self, asks: Asks, domain: Domain, wanted: ChatRequest, options: AskOptions, frame: ReplyFrame
    ) -> None:
        self._asks = asks
        self._domain = domain
        self._wanted = wanted
        self._options = options
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The reply in one piece (ASGI)."""
        response: Response | None = None
        async with while_connected(receive):
            response = await self._whole()
        if response is not None:
            await response(scope, receive, send)

    async def _whole(self) -> Response:
        async with self._asks.open(DOOR, self._options) as answer:
            logprobs = [logprobs_of(delta, self._wanted.top_logprobs) async for delta in answer]
        receipt = receipt_of(self._domain, answer)
        joined = join_logprobs([part for part in logprobs if part])
        return JSONResponse(
            self._frame.whole(answer.transcript, joined, receipt, self._wanted.has_tools),
            headers={RECEIPT_HEADER: receipt["id"]} if receipt else None,
        )

    async def stream(self, body: Body) -> None:
        """The reply as server-sent events."""
        async with self._asks.open(DOOR, self._options) as answer:
            role = {"role": "assistant"}
            sieve = CallSieve() if self._wanted.has_tools else None
            async for delta in answer:
                logprobs = logprobs_of(delta, self._wanted.top_logprobs)
                text = delta.text if sieve is None else sieve.feed(delta.text)
                if text or logprobs:
                    await body.write(self._frame.chunk({**role, "content": text}, logprobs))
                    role = {}
            text, calls = ("", []) if sieve is None else sieve.end(self._frame.reply_id)
            if text:
                await body.write(self._frame.chunk({**role, "content": text}))
                role = {}
            await self._finish(body, answer, role, calls)

    async def _finish(
        self, body: Body, answer: CountedAnswer, role: dict[str, str], calls: list[dict[str, Any]]
    ) -> None:
        if calls:
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            await body.write(self._frame.chunk({**role, "tool_calls": numbered}))
            role = {}
        last = self._frame.chunk({**role}, finish=finish_of(answer.transcript, calls))
        await body.write({**last, "receipt": receipt_of(self._domain, answer)})
        if self._wanted.include_usage:
            await body.write(self._frame.usage_chunk(answer.transcript))
        await body.write("[DONE]")
