"""Who may come in by TCP: holders of an API key, or, on loopback without keys, this machine's programs.

Rules of this file:

- Without keys, the Host header must name this machine: a web page that points a host name of its own at
  127.0.0.1 (DNS rebinding) is a stranger, and would spend this peer's money. Bodies must be declared as JSON
  for the same reason: a browser sends those elsewhere only with leave, which is never given.
- Keys are compared whole and in constant time, by their digests.
- `/healthz` and `/readyz` tell nothing and are open.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ...protocol.errors import ConfigError
from ..config import Config
from .errors import Unauthorised
from .responses import error_response

CLIENT = "client"
"""Where a request's state has whose it is."""
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def check_exposure(config: Config) -> None:
    """Raises ConfigError for a gateway that anybody could reach and use."""
    if not config.api_keys and not is_loopback(config.gateway_host):
        raise ConfigError(
            f"the gateway would listen on {config.gateway_host or 'every address'} without API keys; "
            "set api_keys (COMMONLORE_API_KEYS), or gateway_host to 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address (brackets allowed) is this machine and nobody else."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware that lets in who may come in."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401 (ASGI)."""
        error = self._objection(scope)
        if error is None and self._digests and scope["type"] == "http":
            scope.setdefault("state", {})[CLIENT] = _digest(_token_of(Headers(scope=scope))).hex()[:16]
        await (error_response(error) if error else self._app)(scope, receive, send)

    def _objection(self, scope: Scope) -> Unauthorised | None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        if not self._digests:
            host = _host_of(headers.get("host", ""))
            return None if is_loopback(host) else Unauthorised(f"this gateway is not {host[:80]!r}")
        token = _token_of(headers)
        given = _digest(token)
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if token and any(matches):
            return None
        return Unauthorised(
            "no valid API key; send authorization: Bearer KEY with one of this gateway's keys"
        )


def client_of(request: Request) -> str:
    """Which key's holder asks, by a digest of it; nobody in particular where none is needed."""
    return str(getattr(request.state, CLIENT, ""))


def _token_of(headers: Headers) -> str:
    """The bearer's token, or nothing."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host_of(header: str) -> str:
    """The Host header without its port."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdigit() else header


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
