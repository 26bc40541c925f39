"""The control API: what this machine's commands say to the running node, on a Unix socket of its home.

Everything is JSON; what takes long is a stream of JSON lines. Whoever may open the socket is the home's owner
(mode 0600 in a 0700 folder): there are no keys here. `doc` says what each address does.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...protocol.attribution.faithfulness import Faithfulness
from ...protocol.encoding.codec import decode
from ..asking.answers import AskOptions
from . import views
from .asks import Asks
from .bodies import Body, json_lines, read_fields
from .control_orders import (
    MAX_AMOUNT,
    read_ask,
    read_merge,
    read_publication,
    read_training,
    read_withdrawal,
)
from .datanet_list import list_datanets
from .fields import Fields
from .lineage import Lineage
from .models import Models
from .node import GatewayNode, NodeActions
from .receipts import Receipts
from .responses import make_app
from .sampling import Entropy
from .takedowns import Takedowns

DOOR = "control"
MAX_ORDER = 96 * 1024 * 1024
MAX_RECEIPTS = 1_000


def make_control(
    node: GatewayNode,
    actions: NodeActions,
    asks: Asks,
    stop: Callable[[], None],
    entropy: Entropy = secrets.token_bytes,
) -> ASGIApp:
    """The application. `stop` ends the node; it is called when the answer to /shutdown is on its way."""
    orders = Orders(node, actions, asks, Models(node), entropy)
    routes = [
        *Reading(node, actions).routes(),
        *orders.routes(),
        Route("/shutdown", _shutdown(stop), methods=["POST"]),
    ]
    return make_app(routes)


def _shutdown(stop: Callable[[], None]) -> Callable[[Request], object]:
    async def shutdown(request: Request) -> ASGIApp:
        """The node ends."""

        async def farewell(scope: Scope, receive: Receive, send: Send) -> None:
            await JSONResponse({"stopping": True})(scope, receive, send)
            stop()

        return farewell

    return shutdown


class Reading:
    """What can be looked at."""

    def __init__(self, node: GatewayNode, actions: NodeActions) -> None:
        self._node = node
        self._actions = actions
        self._lineage = Lineage(node)
        self._receipts = Receipts(node, actions)

    def routes(self) -> list[Route]:
        """Where."""
        return [
            Route("/status", self.status),
            Route("/receipts", self.receipts),
            Route("/receipts/{name}", self.receipt),
            Route("/receipts/{name}/evidence", self.evidence),
            Route("/faithfulness/{name:path}", self.faithfulness),
            Route("/adapters", self.adapters),
            Route("/adapters/{name:path}", self.adapter),
            Route("/datanets", self.datanets),
            Route("/datanets/{name}", self.datanet),
            Route("/peers", self.peers),
        ]

    async def status(self, request: Request) -> Response:
        """How the node is doing."""
        return JSONResponse(views.plain(await self._actions.status()))

    async def receipts(self, request: Request) -> Response:
        """The newest receipts, at most `limit`, from below number `before` on."""
        query = Fields({name: _number(value) for name, value in request.query_params.items()})
        query.only(("limit", "before"))
        found = await self._receipts.listed(
            query.integer_or("limit", 50, 1, MAX_RECEIPTS), query.integer_or("before", None, 1, 1 << 62)
        )
        return JSONResponse(found)

    async def receipt(self, request: Request) -> Response:
        """One receipt by its number, its id or hash or how one begins, with its credits as far as known."""
        return JSONResponse(await self._receipts.shown(request.path_params["name"]))

    async def evidence(self, request: Request) -> Response:
        """Have what a check of a receipt up to `level` reads on this machine."""
        query = Fields({name: _number(value) for name, value in request.query_params.items()})
        query.only(("level",))
        stored = await self._receipts.find(request.path_params["name"])
        return JSONResponse(await self._actions.gather(stored, query.integer("level", 0, 3)))

    async def adapters(self, request: Request) -> Response:
        """The adapters that are announced."""
        return JSONResponse(await self._lineage.listed())

    async def adapter(self, request: Request) -> Response:
        """One adapter by its alias or id: what its manifest commits."""
        return JSONResponse(await self._lineage.shown(request.path_params["name"]))

    async def faithfulness(self, request: Request) -> Response:
        """Have what measuring an adapter's faithfulness reads on this machine."""
        return JSONResponse(await self._actions.gather_faithfulness(request.path_params["name"]))

    async def datanets(self, request: Request) -> Response:
        """The Datanets that are announced, with what they hold as far as it can be had in a moment."""
        return JSONResponse(await list_datanets(self._node))

    async def datanet(self, request: Request) -> Response:
        """One Datanet by its name: what it holds, what was taken back of it, and what learnt from that."""
        node = self._node
        takedowns = Takedowns(node.catalog, node.content, node.clock.now_ms())
        return JSONResponse(await takedowns.of_datanet(request.path_params["name"]))

    async def peers(self, request: Request) -> Response:
        """Connections, and the workers that are known."""
        host = self._node.host
        offers = self._node.asker.offers()
        return JSONResponse(views.peers_view(host.peer_id, host.addresses, host.connected(), offers))


class Orders:
    """What can be ordered."""

    def __init__(
        self, node: GatewayNode, actions: NodeActions, asks: Asks, models: Models, entropy: Entropy
    ) -> None:
        self._node = node
        self._actions = actions
        self._asks = asks
        self._models = models
        self._entropy = entropy

    def routes(self) -> list[Route]:
        """Where."""
        ordered = {
            "/ask": self.ask,
            "/datanets": self.publish,
            "/datanets/withdraw": self.withdraw,
            "/train": self.train,
            "/merge": self.merge,
            "/faithfulness": self.announce_faithfulness,
            "/settle": self.settle,
            "/claim": self.claim,
            "/deposit": self.deposit,
            "/connect": self.connect,
        }
        return [Route(path, endpoint, methods=["POST"]) for path, endpoint in ordered.items()]

    async def ask(self, request: Request) -> ASGIApp:
        """{"delta": text} lines, then {"done": the whole answer with its receipts}."""
        options = await read_ask(await _fields(request), self._models, self._entropy)

        async def produce(body: Body) -> None:
            await self._answer(options, body)

        return json_lines(produce)

    async def _answer(self, options: AskOptions, body: Body) -> None:
        async with self._asks.open(DOOR, options) as answer:
            async for delta in answer:
                if delta.text:
                    await body.write({"delta": delta.text})
        whole = views.answer_view(self._node.domain, answer.transcript, answer.adapters, answer.citations)
        await body.write({"done": whole})

    async def publish(self, request: Request) -> Response:
        """Publish a Datanet version; its record."""
        plan, drafts = read_publication(await _fields(request))
        return JSONResponse(views.plain(await self._actions.publish_datanet(plan, drafts)))

    async def withdraw(self, request: Request) -> Response:
        """Take {contributor}'s shards of {datanet} back; the adapters that learnt from them."""
        wanted = read_withdrawal(await _fields(request))
        return JSONResponse(views.plain(await self._actions.withdraw(*wanted)))

    async def train(self, request: Request) -> ASGIApp:
        """{"progress": …} lines, the last of which tells what was published, then {"done": that}."""
        return _followed(self._actions.train(read_training(await _fields(request))))

    async def merge(self, request: Request) -> ASGIApp:
        """As `train`, for an adapter that is made of others."""
        return _followed(self._actions.merge(read_merge(await _fields(request))))

    async def announce_faithfulness(self, request: Request) -> Response:
        """Announce a measurement, {encoded} in hexadecimal: {statement, by_author}."""
        fields = await _fields(request)
        fields.only(("encoded",))
        try:
            encoded = bytes.fromhex(fields.text("encoded", high=4096))
        except ValueError:
            raise fields.fail("encoded", "is not hexadecimal") from None
        found = decode(Faithfulness, encoded)
        return JSONResponse(views.plain(await self._actions.announce_faithfulness(found)))

    async def settle(self, request: Request) -> Response:
        """One round of settlement."""
        return JSONResponse(views.plain(await self._actions.settle_once()))

    async def claim(self, request: Request) -> Response:
        """Claim what was earned."""
        return JSONResponse(views.plain(await self._actions.claim()))

    async def deposit(self, request: Request) -> Response:
        """Move {amount} token units into the escrow."""
        fields = await _fields(request)
        fields.only(("amount",))
        return JSONResponse(views.plain(await self._actions.deposit(fields.integer("amount", 1, MAX_AMOUNT))))

    async def connect(self, request: Request) -> Response:
        """Connect to the peer at {address}."""
        fields = await _fields(request)
        fields.only(("address",))
        return JSONResponse({"peer": await self._node.host.connect(fields.text("address", high=512))})


def _followed(order: AbstractAsyncContextManager[AsyncIterator[object]]) -> ASGIApp:
    """An order's updates as lines; whoever leaves stops it."""

    async def produce(body: Body) -> None:
        last: object = None
        async with order as updates:
            async for update in updates:
                last = views.plain(update)
                await body.write({"progress": last})
        await body.write({"done": last})

    return json_lines(produce)


async def _fields(request: Request) -> Fields:
    return await read_fields(request, MAX_ORDER, require_type=False)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
