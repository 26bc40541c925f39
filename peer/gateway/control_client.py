"""Talking to the node that runs in a home: for commands, which are not async and are gone soon.

Every call ends in a result or in the typed error that the node told: see `errors.error_of`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from ...protocol.errors import DeadlineExceeded, Unreachable
from ..home import Home
from .errors import Defect, error_of

CONNECT_S = 5.0
ANSWER_S = 600.0
"""How long one call may take. A stream may take as long as it likes: it shows its progress."""


def is_running(home: Home) -> bool:
    """Whether a node listens in this home."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_S)
        try:
            probe.connect(os.fspath(home.control_socket))
        except OSError:
            return False
    return True


class ControlClient:
    """The node of one home. Use it as a context manager, or close it."""

    def __init__(self, home: Home, answer_s: float = ANSWER_S) -> None:
        """`answer_s`: how long one call may take, in seconds."""
        self._home = home
        self._answer_s = answer_s
        transport = httpx.HTTPTransport(verify=False, uds=os.fspath(home.control_socket))  # no TLS to set up
        self._http = httpx.Client(transport=transport, base_url="http://commonlore", trust_env=False)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def get(self, path: str, **query: str | int) -> Any:
        """GET `path`: the JSON that the node answers. Raises CommonloreError."""
        with self._mapped():
            timeout = self._timeout(self._answer_s)
            return self._result(self._http.get(path, params=query or None, timeout=timeout))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST a JSON object: the JSON that the node answers. Raises CommonloreError."""
        with self._mapped():
            timeout = self._timeout(self._answer_s)
            return self._result(self._http.post(path, content=_encode(body), timeout=timeout))

    def stream(self, path: str, body: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """POST a JSON object: the lines that the node answers, as they come. Closing the iterator stops the
        work. Raises CommonloreError, also in mid-stream.
        """
        request = self._http.build_request("POST", path, content=_encode(body), timeout=self._timeout(None))
        with self._mapped():
            response = self._http.send(request, stream=True)
            try:
                if response.is_error:
                    response.read()
                    self._result(response)
                for line in response.iter_lines():
                    yield _line(line)
            finally:
                response.close()

    def _no_node(self) -> Unreachable:
        return Unreachable(f"no node runs in {self._home.path}; start one with: commonlore up")

    def _timeout(self, read_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(CONNECT_S, read=read_s, write=CONNECT_S * 12)

    def _result(self, response: httpx.Response) -> Any:
        told = _parse(response.content)
        if response.is_error:
            raise error_of(told["error"]) if _is_envelope(told) else Defect(f"status {response.status_code}")
        return told

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """httpx's errors as ours."""
        if not is_running(self._home):  # asked first: httpcore leaks the socket of a failed connection
            raise self._no_node()
        try:
            yield
        except httpx.ConnectError:
            raise self._no_node() from None
        except httpx.TimeoutException:
            raise DeadlineExceeded(
                f"the node in {self._home.path} did not answer in time; see its logs in {self._home.logs}"
            ) from None
        except httpx.TransportError as error:
            raise Unreachable(
                f"the node in {self._home.path} went away ({error}); see its logs in {self._home.logs}"
            ) from None


def _encode(body: Mapping[str, Any] | None) -> bytes:
    return json.dumps(body or {}).encode()  # ASCII: text that is not valid is for the node to name


def _line(line: str) -> dict[str, Any]:
    told = _parse(line)
    if _is_envelope(told):
        raise error_of(told["error"])
    if not isinstance(told, dict):
        raise Defect("the node sent a line that is no object; client and node may be of different versions")
    return told


def _parse(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Defect(
            "the node did not answer in JSON; client and node may be of different versions"
        ) from None


def _is_envelope(told: Any) -> bool:
    return isinstance(told, dict) and isinstance(told.get("error"), dict)
