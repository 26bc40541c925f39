"""Opening a node's HTTP doors: the control socket always, the gateway where that is a role of the node."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from ..unwrap import single_leaf
from .asks import Asks
from .control import make_control
from .guard import check_exposure
from .node import GatewayNode, NodeActions
from .server import open_port, open_unix_socket, serve_http
from .web import make_gateway

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """Open doors.

    `gateway_url` is None without that role; `stopped` is set when somebody orders the node's end.
    """

    gateway_url: str | None
    stopped: trio.Event = field(default_factory=trio.Event)


@asynccontextmanager
async def open_doors(node: GatewayNode, actions: NodeActions) -> AsyncIterator[Doors]:
    """Serve the node by HTTP while the block lasts. Raises ConfigError where a door cannot be opened."""
    is_gateway = "gateway" in node.config.roles
    if is_gateway:
        check_exposure(node.config)
    asks, stopped = Asks(node), trio.Event()
    async with AsyncExitStack() as stack:
        control = stack.enter_context(open_unix_socket(node.home.control_socket))
        port = (
            stack.enter_context(await open_port(node.config.gateway_host, node.config.gateway_port))
            if is_gateway
            else None
        )
        stack.enter_context(single_leaf())
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        await nursery.start(serve_http, make_control(node, actions, asks, stopped.set), [control])
        if port is not None:
            await nursery.start(serve_http, make_gateway(node, asks), port.listeners)
            log.info("gateway at %s/v1", port.url)
        yield Doors(port.url if port else None, stopped)
