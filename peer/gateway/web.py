"""The gateway on TCP: chat completions, health, metrics."""

from __future__ import annotations

import secrets

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .asks import Asks
from .chat import Chat
from .guard import Guard
from .metrics import MEDIA_TYPE
from .models import Models
from .node import GatewayNode
from .responses import make_app
from .sampling import Entropy


def make_gateway(node: GatewayNode, asks: Asks, entropy: Entropy = secrets.token_bytes) -> ASGIApp:
    """The application. `entropy(n)` gives n random bytes: seeds and reply ids."""
    health = Health(node, asks)
    chat = Chat(asks, Models(node), node.clock, node.domain, entropy)
    return make_app([*chat.routes(), *health.routes()], Middleware(Guard, keys=node.config.api_keys))


class Health:
    """Whether this node lives, can answer, and what it counts."""

    def __init__(self, node: GatewayNode, asks: Asks) -> None:
        self._node = node
        self._asks = asks

    def routes(self) -> list[Route]:
        """Where that is told."""
        return [
            Route("/healthz", self.alive),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def alive(self, request: Request) -> Response:
        """200 while the process runs its loop."""
        return JSONResponse({"alive": True})

    async def ready(self, request: Request) -> Response:
        """200 when some worker is known, so that a question can be answered; 503 before."""
        workers = len(self._node.asker.offers())
        told = {"ready": workers > 0, "workers": workers, "peers": len(self._node.host.connected())}
        return JSONResponse(told, 200 if workers else 503)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._asks.metrics.exposition(), media_type=MEDIA_TYPE)
