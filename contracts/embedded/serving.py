"""JSON-RPC over HTTP on loopback, one thread a connection.

A web page in a browser on this machine could send requests here too; what bears an Origin, or a Host that is
not loopback, is turned away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from ...protocol.encoding.untrusted_json import load_json
from ...protocol.errors import ConfigError

MAX_BODY_BYTES = 4 * 1024 * 1024
_LOOPBACK = ("127.0.0.1", "localhost")
_IDLE_S = 60.0


def listen(port: int) -> LoopbackServer:
    """Takes a port on 127.0.0.1 (0: a free one). Raises ConfigError if it is taken."""
    try:
        return LoopbackServer(("127.0.0.1", port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"port {port} cannot be used: {reason}; choose another with --port") from error


@contextmanager
def serving(server: LoopbackServer, respond: Callable[[Any], Any]) -> Iterator[str]:
    """Answers requests with `respond` (decoded request to decoded response) in threads; yields the URL."""
    server.respond = respond
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


class LoopbackServer(ThreadingHTTPServer):
    """Listens; what it answers is set when it starts."""

    daemon_threads = True
    block_on_close = False
    respond: Callable[[Any], Any]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    timeout = _IDLE_S
    server: LoopbackServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self._is_local():
            self._answer(403, {"error": "this chain answers programs on this machine only"})
        elif not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer(413, {"error": f"a request has a length of at most {MAX_BODY_BYTES} bytes"})
        else:
            self._answer_rpc(self.rfile.read(int(length)))

    def _answer_rpc(self, body: bytes) -> None:
        try:
            request = load_json(body)
        except (ValueError, RecursionError):
            self._answer(
                400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}}
            )
            return
        self._answer(200, self.server.respond(request))

    def _is_local(self) -> bool:
        host = urlsplit("//" + self.headers.get("Host", "")).hostname
        return host in _LOOPBACK and "Origin" not in self.headers

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""
